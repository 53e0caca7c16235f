# SPDX-License-Identifier: Apache-2.0
"""Piecewise-linear tables of scalar functions: index, knots, lines, fit and worst-case error."""
