# SPDX-License-Identifier: Apache-2.0
"""Front ends: one module per kind of model.

In: a framework's model.  Out: a ``Graph``.  Each module imports its framework only when it is used.
"""
