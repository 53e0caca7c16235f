# SPDX-License-Identifier: Apache-2.0
"""The front end of torch: it exports a ``torch.nn.Module`` to an ONNX model."""
