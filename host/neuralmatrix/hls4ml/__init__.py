# SPDX-License-Identifier: Apache-2.0
"""hls4ml's backend "NeuralMatrix": its models run on the array instead of as a bitstream each.

In: hls4ml's ModelGraph.  Out: programs, predictions, traces, estimates, runs on a board.
hls4ml finds ``plugin.register`` through the entry point group ``hls4ml.backends``.
"""
