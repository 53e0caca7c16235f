# SPDX-License-Identifier: Apache-2.0
"""Graph: framework operators in real arithmetic."""
