# SPDX-License-Identifier: Apache-2.0
"""Lowering: Graph to MatGraph, and the MatGraph's own passes."""
