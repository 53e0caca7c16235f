# SPDX-License-Identifier: Apache-2.0
"""Lowering of a Graph to a MatGraph: one rule per kind of node, and their common builder."""
