# SPDX-License-Identifier: Apache-2.0
"""Passes that are exact in real arithmetic: rewrites of a Graph, lowering, rewrites of a
MatGraph."""
