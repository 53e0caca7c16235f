# SPDX-License-Identifier: Apache-2.0
"""Networks that other packages quantise, compiled with the integers that they prescribe."""
