# SPDX-License-Identifier: Apache-2.0
"""A MatGraph and calibration samples become a QGraph of integers."""
