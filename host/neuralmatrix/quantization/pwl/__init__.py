# SPDX-License-Identifier: Apache-2.0
"""Piecewise-linear tables of functions: index, knots, lines, and their worst-case error."""
