# SPDX-License-Identifier: Apache-2.0
"""The package's version, written once.

In: nothing.  Out: ``__version__``, which setup.py reads and every saved program carries.
It has a module of its own, so that any module can import it.
"""

__version__ = "0.1.0"
