# SPDX-License-Identifier: Apache-2.0
"""MatGraph: operations of the array in real arithmetic."""
