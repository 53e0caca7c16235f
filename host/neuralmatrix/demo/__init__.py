# SPDX-License-Identifier: Apache-2.0
"""The embedded networks, their data, the notebooks."""
