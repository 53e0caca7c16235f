# SPDX-License-Identifier: Apache-2.0
"""Measurements of a program on a device: time, cycles and power, compared with the estimate.

In: a ``Program`` and a device.  Out: dictionaries that say of each number whether it is measured,
emulated or estimated.  Needs numpy and the standard library; pages need plotly, comparisons need
onnxruntime.
"""
