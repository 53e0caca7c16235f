# SPDX-License-Identifier: Apache-2.0
"""The importer of ONNX models: it checks a model and builds the Graph, operator by operator."""
