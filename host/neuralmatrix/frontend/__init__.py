# SPDX-License-Identifier: Apache-2.0
"""Front ends, which import a framework's model as a Graph: one package per framework.

In: a framework's model.  Out: a ``Graph``.  A package imports its framework only when it is used.
"""
