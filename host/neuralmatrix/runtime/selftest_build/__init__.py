# SPDX-License-Identifier: Apache-2.0
"""Makes the self-test that lies beside an overlay."""
