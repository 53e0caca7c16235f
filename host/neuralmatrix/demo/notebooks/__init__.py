# SPDX-License-Identifier: Apache-2.0
"""Notebooks, which ``pynq get-notebooks neuralmatrix`` delivers.

In: nothing.  Out: this folder, as the entry point ``pynq.notebooks``.
"""
