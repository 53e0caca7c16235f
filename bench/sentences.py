# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2 on STS-B and SST-2: float by onnxruntime against the emulated array.

In: the data folder, and ``--model`` (made by ``models/export_minilm.py``).
Out: Spearman's correlation of sentence similarities, accuracy of the given sentiment head, losses.
Calibration uses the first sentences of STS-B's development part, without their scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import BOARD, Array, Row, data_folder, ort_session, report

LENGTH = 64  # tokens; the longest sentence of these sets has 53
CALIBRATION = 64
SPEARMAN_LOSS = {"int8": 0.02, "mixed": 0.005}
ACCURACY_LOSS = {"mixed": 0.5}

Feed = dict[str, Array]


def feeds_of(ids: Array, lengths: Array) -> Feed:
    """Make padded ids and masks, (sentences, LENGTH) int64."""
    padded = np.zeros((len(lengths), LENGTH), np.int64)
    mask = np.zeros((len(lengths), LENGTH), np.int64)
    for row, part in enumerate(np.split(ids, np.cumsum(lengths)[:-1])):
        part = part[:LENGTH]
        padded[row, : len(part)], mask[row, : len(part)] = part, 1
    return {"input_ids": padded, "attention_mask": mask}


def pairs(part: str) -> tuple[Feed, Feed, Array]:
    """Read both sentences of every pair of STS-B, and their scores."""
    z = np.load(data_folder() / "stsb" / f"stsb_{part}_minilm_tokens.npz")
    return feeds_of(z["ids1"], z["len1"]), feeds_of(z["ids2"], z["len2"]), z["score"]


def float_embeddings(model: Path, feeds: Feed) -> Array:
    """Compute embeddings by onnxruntime, one sentence at a time."""
    session = ort_session(model)
    count = len(feeds["input_ids"])
    one = ({k: v[i : i + 1] for k, v in feeds.items()} for i in range(count))
    return np.concatenate([session.run(None, feed)[0] for feed in one])


def spearman(a: Array, b: Array) -> float:
    """Return the rank correlation; ties have their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(x: Array) -> Array:
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def similarity(first: Array, second: Array) -> Array:
    """Return the cosine of each pair."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(1) / norms)


def sentiment(embeddings: Array) -> Array:
    """Classify as 0 or 1 by the given logistic head."""
    head = np.load(data_folder() / "sst2" / "sst2_minilm_logreg_head.npz")
    return np.asarray(((embeddings @ head["W"].T + head["b"]) > 0).reshape(-1))


def rows(model: Path, precision: str, limit: int | None) -> list[Row]:
    """Measure both tasks at one precision."""
    first, second, score = pairs("test")
    cut = slice(limit)
    first, second = ({k: v[cut] for k, v in f.items()} for f in (first, second))
    score = score[cut]
    z = np.load(data_folder() / "sst2" / "sst2_dev_minilm_tokens.npz")
    words, labels = {k: v[cut] for k, v in feeds_of(z["ids"], z["len"]).items()}, z["y"][cut]
    run, speed = program(model, precision)
    found = [run(feed) for feed in (first, second, words)]
    truth = [float_embeddings(model, feed) for feed in (first, second, words)]
    after, before = (spearman(similarity(e[0], e[1]), score) for e in (found, truth))
    hits = [100.0 * float((sentiment(e[2]) == labels).mean()) for e in (found, truth)]
    return [
        Row(f"STS-B Spearman float, {len(score)} pairs", before, "", "measured"),
        Row(f"STS-B Spearman {precision}", after, "", "emulated"),
        Row(f"STS-B loss {precision}", before - after, "", "emulated",
            at_most=SPEARMAN_LOSS.get(precision)),
        Row(f"SST-2 float, {len(labels)} sentences", hits[1], "%", "measured"),
        Row(f"SST-2 {precision}", hits[0], "%", "emulated"),
        Row(f"SST-2 loss {precision}", hits[1] - hits[0], "points", "emulated",
            at_most=ACCURACY_LOSS.get(precision)),
        Row(f"MiniLM, {LENGTH} tokens, emulation", speed(), "sent./s", "measured", at_least=15),
    ]  # fmt: skip


def program(model: Path, precision: str) -> tuple[Any, Any]:
    """Return a function from feeds to embeddings on the emulated array, and its speed so far."""
    import neuralmatrix as nm

    some = {k: v[:CALIBRATION] for k, v in pairs("dev")[0].items()}
    compiled = nm.compile(model, board=BOARD, calibration=[some], precision=precision)
    session = nm.Session(compiled)
    speeds: list[float] = []

    def run(feeds: Feed) -> Array:
        (y,) = session.run(feeds).values()
        assert session.stats is not None
        speeds.append(session.stats.images_per_host_second)
        return np.asarray(y)

    return run, lambda: float(np.median(speeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="ONNX file of the sentence model")
    parser.add_argument("--precision", nargs="*", default=["int8", "mixed"])
    parser.add_argument("--limit", type=int, help="use only the first pairs and sentences")
    options = parser.parse_args()
    for precision in options.precision:
        report("sentences", rows(options.model, precision, options.limit))


if __name__ == "__main__":
    main()
