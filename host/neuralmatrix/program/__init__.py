# SPDX-License-Identifier: Apache-2.0
"""The compiled program: data, file, verifier, disassembly, cycle estimate, host side of its ports.

In: a schedule or a file.  Out: ``Program``.  Needs numpy alone.
"""
