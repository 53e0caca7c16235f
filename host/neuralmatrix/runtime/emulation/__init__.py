# SPDX-License-Identifier: Apache-2.0
"""Runs programs on the kernels, compiled for this machine's CPU."""
