# SPDX-License-Identifier: Apache-2.0
"""Estimated inferences per second at batch 1, one row a network, one column a board.

In: trained networks of the data folder, networks of models/ with random weights; optionally names
and --boards.  Out: the rates of the README's table of networks, all from the cycle model.
A rate depends on shapes, on the precision, and on which weights of a graph network are zero; it
does not depend on other weights, so a few samples suffice to calibrate, and so do random weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import graphs
import transformers
from common import TASKS, Array, Row, random_feed, report
from neuralmatrix.hardware import instruction_costs
from neuralmatrix.hardware.board import load_board
from zoo import ZOO
from zoo_transformers import TRANSFORMERS, Size, bert

BOARDS = ("pynq-z2", "kv260")
SAMPLES = 16
MINILM = Size(384, 6, 12, 1536, 64)  # all-MiniLM-L6-v2 without its pooling
VOCABULARY = 30522


@dataclass(frozen=True)
class Net:
    """The arguments of nm.compile: a model, samples, and constants."""

    model: Any
    samples: dict[str, Array]
    constants: dict[str, Array] = field(default_factory=dict)


def task(key: str) -> Net:
    """Return a trained network of bench/accuracy.py."""
    trained = TASKS[key]()
    return Net(trained.path, {trained.input: trained.x[:SAMPLES]})


def own(key: str) -> Net:
    """Return a trained transformer of bench/transformers.py."""
    net = transformers.NETS[key]()
    return Net(net.model, {name: x[:SAMPLES] for name, x in net.calibration.items()})


def cora() -> Net:
    """Return the graph network of bench/graphs.py."""
    data = graphs.cora()
    path = graphs.data_folder() / "cora" / "gcn_cora.onnx"
    return Net(path, {"features": data["features"]}, {"adj_norm": data["adjacency"]})


def random(model: Any) -> Net:
    """Return a network with random weights and a random sample."""
    return Net(model, random_feed(model))


NETS: dict[str, Callable[[], Net]] = {
    "resnet20": lambda: task("resnet20"),
    "resnet8": lambda: task("resnet8"),
    "kws": lambda: task("kws"),
    "vit_fashion": lambda: own("vit"),
    "text_sst2": lambda: own("text"),
    "minilm_encoder": lambda: random(bert(VOCABULARY, MINILM)),
    "gcn_cora": cora,
    "resnet18": lambda: random(ZOO["resnet18"]()),
    "resnet50": lambda: random(ZOO["resnet50"]()),
    "mobilenet_v1": lambda: random(ZOO["mobilenet_v1"]()),
    "mobilenet_v2": lambda: random(ZOO["mobilenet_v2"]()),
    "vit_tiny": lambda: random(TRANSFORMERS["vit_tiny"]()),
    "bert_base": lambda: random(TRANSFORMERS["bert_base"]()),
}


def frames_per_s(program: Any, burst: int | None) -> float:
    """Return the rate; ``burst``: charge as many cycles for each burst and each strided word."""
    known = dict(instruction_costs.constants())
    charged = known if burst is None else {**known, "BURST_GAP": burst, "STRIDED_EXTRA": burst}
    with patch.object(instruction_costs, "constants", lambda: charged):
        return float(program.estimate().frames_per_s)


def at_fallback(program: Any) -> Any:
    """Return the program on its board at the fallback clock; its instructions are the same."""
    slow = load_board(program.board).fallback
    return replace(program, clock_mhz=slow.clock_mhz, timing=slow.timing)


def rows(
    name: str, boards: list[str], burst: int | None = None, fallback: bool = False
) -> list[Row]:
    """Return the rates of one network on every board, at their clocks or fallback clocks."""
    import neuralmatrix as nm

    net, result = NETS[name](), []
    for board in boards:
        program = nm.compile(
            net.model, board=board, calibration=[net.samples], constants=net.constants
        )
        shown = at_fallback(program) if fallback else program
        rate, where = frames_per_s(shown, burst), f"{name} on {board} at {shown.clock_mhz:.4g} MHz"
        result.append(Row(where, rate, "per s", "estimated"))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETS), help=", ".join(NETS))
    parser.add_argument("--boards", nargs="+", default=list(BOARDS))
    parser.add_argument("--burst-cycles", type=int, help="charged for each burst and strided word")
    parser.add_argument("--fallback", action="store_true", help="at the boards' fallback clocks")
    options = parser.parse_args()
    for name in options.networks:
        found = rows(name, options.boards, options.burst_cycles, options.fallback)
        report("rates", found)


if __name__ == "__main__":
    main()
