# SPDX-License-Identifier: Apache-2.0
"""Trains the text classifier for SST-2 and writes weights/text_sst2.npz.

In: sst2/train.tsv and dev.tsv (sentence, tab, 0 or 1) in NEURALMATRIX_DATA.
Out: weights with the vocabulary and, by onnxruntime on the exported network, the accuracy on the
872 sentences of dev.  A minute on two cores.  Needs torch, onnx and onnxruntime.

A word's id is its place in the vocabulary plus 2; 0 is padding and 1 any other word.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import training
from data_sets import data_folder

NAME = "text_sst2"
SEED = 7
SEQUENCE = 64
WORDS = 5000
UNKNOWN = 1
DROPPED = 0.3  # share of words that training replaces by the unknown word


def read(part: str) -> tuple[list[list[str]], Any]:
    """Read words of every sentence and the labels of "train", "dev" or "test"."""
    text = (data_folder() / "sst2" / f"{part}.tsv").read_text(encoding="utf-8")
    rows = [line.rsplit("\t", 1) for line in text.splitlines()]
    return [sentence.split() for sentence, _ in rows], np.array([int(label) for _, label in rows])


def vocabulary(sentences: Sequence[Sequence[str]]) -> list[str]:
    """Return the most frequent words; equally frequent ones are alphabetical."""
    counts = Counter(word for sentence in sentences for word in sentence)
    return sorted(counts, key=lambda word: (-counts[word], word))[:WORDS]


def encode(sentences: Sequence[Sequence[str]], words: Sequence[str]) -> dict[str, Any]:
    """Make "ids" and "mask" (N, SEQUENCE) of the sentences, cut to SEQUENCE words."""
    place = {word: i + UNKNOWN + 1 for i, word in enumerate(words)}
    ids = np.zeros((len(sentences), SEQUENCE), np.int64)
    for row, sentence in zip(ids, sentences, strict=True):
        found = [place.get(word, UNKNOWN) for word in sentence[:SEQUENCE]]
        row[: len(found)] = found
    return {"ids": ids, "mask": (ids > 0).astype(np.int64)}


def train(epochs: int) -> None:
    """Fit the network; words are dropped at random."""
    import torch
    from torch_transformers import text_classifier

    torch.manual_seed(SEED)
    sentences, labels = read("train")
    words = vocabulary(sentences)
    feeds = {name: torch.from_numpy(array) for name, array in encode(sentences, words).items()}

    def dropped(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lost = (torch.rand(ids.shape) < DROPPED) & (mask > 0)
        return ids.masked_fill(lost, UNKNOWN), mask

    net = text_classifier(len(words) + 2, SEQUENCE)
    torch.nn.init.normal_(net.encoder.token.weight, std=0.1)
    training.fit(net, (feeds["ids"], feeds["mask"]), torch.from_numpy(labels), epochs=epochs,
                 peak=1e-3, batch=64, decay=0.3, augment=dropped, smoothing=0.1)  # fmt: skip
    print(f"wrote {training.save_weights(net, NAME, words=np.array(' '.join(words)))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--epochs", type=int, default=12, help="with 0 the stored weights are evaluated"
    )
    epochs = parser.parse_args().epochs
    if epochs:
        train(epochs)
    from zoo_transformers import text_classifier

    weights = training.load_weights(NAME)
    sentences, labels = read("dev")
    feeds = encode(sentences, str(weights["words"]).split())
    share = training.accuracy(text_classifier(weights), feeds, labels)
    print(f"dev accuracy {share:.4f} on {len(labels)} sentences")


if __name__ == "__main__":
    main()
