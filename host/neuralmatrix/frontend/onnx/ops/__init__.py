# SPDX-License-Identifier: Apache-2.0
"""Handlers of the ONNX operators, which append Graph nodes: one module per group of operators."""
