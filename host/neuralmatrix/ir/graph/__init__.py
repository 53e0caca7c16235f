# SPDX-License-Identifier: Apache-2.0
"""The Graph of framework operators: its nodes, shape rules, numpy reference and verifier."""
