# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a MatGraph: fusion, orientation, node reordering, legalisation; one pass per
module."""
