# SPDX-License-Identifier: Apache-2.0
"""Operations at the edges of a network that the host computes, in numpy."""
