# SPDX-License-Identifier: Apache-2.0
"""Runs programs on a board through pynq."""
