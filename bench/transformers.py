# SPDX-License-Identifier: Apache-2.0
"""Our own trained transformers: top-1 in float by onnxruntime against the emulated array.

In: the data folder (fashion_mnist, sst2), weights under models/weights; optionally names, --limit.
Out: both accuracies, the loss and the share of equal answers, in int8 and mixed.
Calibration uses training images and sentences, without their labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import BOARD, Array, Row, ort_session, report
from zoo_transformers import text_classifier, vit_fashion

CALIBRATION = 128
BARS = {("vit", "int8"): 0.5, ("vit", "mixed"): 0.2, ("text", "int8"): 0.5, ("text", "mixed"): 0.5}
PRECISIONS = ("int8", "mixed")


@dataclass(frozen=True)
class Net:
    """A trained network, calibration inputs, test inputs and labels."""

    name: str
    model: Any
    calibration: dict[str, Array]
    feeds: dict[str, Array]
    labels: Array


def vit() -> Net:
    """Return the ViT with all of Fashion-MNIST's test images."""
    import train_vit
    import training

    train, (images, labels) = train_vit.load("train")[0], train_vit.load("test")
    model = vit_fashion(training.load_weights(train_vit.NAME))
    return Net("ViT, Fashion-MNIST", model, {"input": train[:CALIBRATION]}, {"input": images},
               labels)  # fmt: skip


def text() -> Net:
    """Return the sentence classifier with SST-2's development part."""
    import train_text
    import training

    weights = training.load_weights(train_text.NAME)
    words = str(weights["words"]).split()
    few = train_text.encode(train_text.read("train")[0][:CALIBRATION], words)
    sentences, labels = train_text.read("dev")
    feeds, model = train_text.encode(sentences, words), text_classifier(weights)
    return Net("Text classifier, SST-2", model, few, feeds, labels)


NETS: dict[str, Callable[[], Net]] = {"vit": vit, "text": text}


def float_outputs(net: Net) -> Array:
    """Run one input after the other."""
    session = ort_session(net.model.SerializeToString())
    count = len(net.labels)
    one = ({k: v[i : i + 1] for k, v in net.feeds.items()} for i in range(count))
    return np.concatenate([session.run(None, feed)[0] for feed in one])


def rows(key: str, limit: int | None) -> list[Row]:
    """Compare float with every precision."""
    import neuralmatrix as nm

    net = NETS[key]()
    cut = slice(limit)
    net = Net(net.name, net.model, net.calibration, {k: v[cut] for k, v in net.feeds.items()},
              net.labels[cut])  # fmt: skip
    wanted = float_outputs(net).argmax(1)
    before = 100 * float((wanted == net.labels).mean())
    result = [Row(f"{net.name} float, {len(wanted)} inputs", before, "%", "measured")]
    for precision in PRECISIONS:
        program = nm.compile(net.model, board=BOARD, calibration=[net.calibration],
                             precision=precision)  # fmt: skip
        (y,) = nm.Session(program).run(net.feeds).values()
        answers = y.reshape(len(wanted), -1).argmax(1)
        after = 100 * float((answers == net.labels).mean())
        same = 100 * float((answers == wanted).mean())
        result += [
            Row(f"{net.name} {precision}", after, "%", "emulated"),
            Row(f"{net.name} loss {precision}", before - after, "points", "emulated",
                at_most=BARS[key, precision]),
            Row(f"{net.name} same answer {precision}", same, "%", "emulated"),
        ]  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=list(NETS), help=", ".join(NETS))
    parser.add_argument("--limit", type=int, help="use only the first inputs")
    options = parser.parse_args()
    for key in options.nets:
        report("transformers", rows(key, options.limit))


if __name__ == "__main__":
    main()
