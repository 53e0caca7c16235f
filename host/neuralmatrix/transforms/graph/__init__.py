# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a Graph: simplification, constant folding and fusion of decomposed operators."""
