# SPDX-License-Identifier: Apache-2.0
"""Trained networks of others that judge the compiler: one module per domain.

In: packages of ``requirements.txt``, espeak-ng for speech.  Out: ``NETWORKS``, by name.
"""

from __future__ import annotations

from . import files, ocr, pictures, pitch, speech, trained, wake_words
from .base import Network

DOMAINS = (speech, wake_words, pitch, ocr, pictures, files, trained)
NETWORKS: dict[str, Network] = {
    network.name: network for domain in DOMAINS for network in domain.NETWORKS
}
