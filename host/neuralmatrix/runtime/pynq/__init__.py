# SPDX-License-Identifier: Apache-2.0
"""Programs on a board, through pynq."""
