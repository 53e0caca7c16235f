# SPDX-License-Identifier: Apache-2.0
"""Measuring: time, cycles and power of a program on a device, beside the estimate.

In: a ``Program`` and a device.  Out: dictionaries that say of each number whether it is measured,
emulated or estimated.  Needs numpy and the standard library; plotly for pages alone, onnxruntime
for comparing alone.
"""
