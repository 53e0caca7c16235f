# SPDX-License-Identifier: Apache-2.0
"""Exact rewrites in real arithmetic: of a Graph, of a MatGraph, and the lowering between them."""
