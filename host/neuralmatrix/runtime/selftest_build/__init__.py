# SPDX-License-Identifier: Apache-2.0
"""Makes the self-test of an overlay."""
