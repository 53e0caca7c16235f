# SPDX-License-Identifier: Apache-2.0
"""torch modules become ONNX models."""
