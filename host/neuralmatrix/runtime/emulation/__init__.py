# SPDX-License-Identifier: Apache-2.0
"""Programs on the kernels, compiled for this machine's CPU."""
