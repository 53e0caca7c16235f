# SPDX-License-Identifier: Apache-2.0
"""The MatGraph of array operations: its operations, def-use index, facts, reference, verifier."""
