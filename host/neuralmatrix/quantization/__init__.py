# SPDX-License-Identifier: Apache-2.0
"""From a MatGraph to a QGraph of integers: calibration, precision, scales, tables, and the exact
integer reference."""
