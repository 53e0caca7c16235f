# SPDX-License-Identifier: Apache-2.0
"""hls4ml's ModelGraph, after its flows, becomes an ONNX model of fixed-point tensors."""
