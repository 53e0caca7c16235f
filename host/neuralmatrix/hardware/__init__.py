# SPDX-License-Identifier: Apache-2.0
"""What the array, its instruction set, the boards and their overlays are, as data.

In: board files.  Out: frozen dataclasses; generated C++ headers and pages.
"""
