# SPDX-License-Identifier: Apache-2.0
"""Serves programs over HTTP with the Open Inference Protocol; needs the extra ``serve``."""
