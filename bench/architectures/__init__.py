# SPDX-License-Identifier: Apache-2.0
"""Small networks of other packages, compiled and compared with onnxruntime."""
