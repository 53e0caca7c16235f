# SPDX-License-Identifier: Apache-2.0
"""ONNX operators, one module per group."""
