# SPDX-License-Identifier: Apache-2.0
"""A board that is emulated below the real pynq package, so that the driver runs as on hardware.

In: a board's design and the emulated kernels.  Out: ``EmulatedBoard``.
"""
