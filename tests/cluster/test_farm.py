# SPDX-License-Identifier: Apache-2.0
"""Boards over SSH as workers: two emulated boards behind real sshds on this machine, where pynq is
installed; otherwise the plain emulation behind the same connections.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import pynq
from far_board import Far, emulated_board, free_port, interpreter
from judged import CLASSES, FEEDS, LABELS, OTHERS, PROGRAM, RIGHT, SAMPLES, two_layers
from neuralmatrix.cluster import DataSet, Farm, addresses, evaluate, points_of, sweep
from neuralmatrix.cluster.farm import Todo
from neuralmatrix.cluster.workers import Chunk
from neuralmatrix.errors import BadInput, HostUnreachable

BOARD = "pynq-z2"
DEVICE = "pynq" if pynq() else "emulation"


def over_ssh(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that connects."""
    for mark in (pytest.mark.ssh, pytest.mark.gxx, pytest.mark.slow):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Far]]:
    with ExitStack() as stack:
        folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
        yield [stack.enter_context(emulated_board(folder, BOARD)) for folder in folders]


@pytest.fixture
def farm(boards: list[Far]) -> Farm:
    place = str(boards[0].folder / "place")
    targets = tuple(board.target for board in boards)
    return Farm(targets, DEVICE, python=sys.executable, remote_dir=place)


def connections(board: Far) -> int:
    return board.log.read_text().count("Accepted publickey")


@over_ssh
def test_counts_are_those_of_one_process(boards: list[Far], farm: Farm) -> None:
    before = [connections(board) for board in boards]
    found = evaluate(PROGRAM, FEEDS, LABELS, chunk=3, workers=farm)
    assert found.sums == (RIGHT, LABELS.size)
    assert all(connections(b) > n for b, n in zip(boards, before, strict=True)), "both took part"


@over_ssh
def test_a_board_that_is_lost_loses_nothing(boards: list[Far], farm: Farm, tmp_path: Path) -> None:
    """Its connection is cut while its second chunk runs there."""
    notes: list[str] = []
    parents = "read _ _ _ parent _ < /proc/$PPID/stat"
    cut = f"{{ {parents}; kill -9 $PPID $parent; sleep 9; }}"
    before = f'[ "$1" = -u ] && [ "$CUT" ] && if [ -e "$CUT" ]; then {cut}; else touch "$CUT"; fi'
    python = interpreter(tmp_path / "cutting", before)
    with emulated_board(tmp_path, BOARD, CUT=str(tmp_path / "mark")) as third:
        short = replace(farm, boards=(farm.boards[0], third.target), python=python)
        found = evaluate(PROGRAM, FEEDS, LABELS, chunk=3, workers=replace(short, note=notes.append))
    assert found.sums == (RIGHT, LABELS.size) and (tmp_path / "mark").exists()
    assert len(notes) == 1 and notes[0].startswith(f"lost {third.target.host}: ")


@over_ssh
def test_without_any_board_the_last_error_is_raised(boards: list[Far], farm: Farm) -> None:
    gone = replace(boards[0].target, port=free_port())
    with pytest.raises(HostUnreachable, match="nothing listens on that port"):
        evaluate(PROGRAM, FEEDS, LABELS, workers=replace(farm, boards=(gone, gone)))
    found = evaluate(PROGRAM, FEEDS, LABELS, workers=replace(farm, boards=(gone, farm.boards[0])))
    assert found.sums == (RIGHT, LABELS.size)


@over_ssh
def test_labels_that_do_not_fit_end_it(farm: Farm) -> None:
    with pytest.raises(BadInput, match="one integer per row"):
        evaluate(PROGRAM, FEEDS, LABELS[:, :1], chunk=3, workers=farm)


@over_ssh
def test_a_sweep_is_the_same(farm: Farm) -> None:
    points, data = points_of([BOARD], ["int8", "int16"]), DataSet(OTHERS, CLASSES)
    found = sweep(two_layers(), points, SAMPLES, data=data, workers=farm)
    assert found == sweep(two_layers(), points, SAMPLES, data=data)
    assert all(row.score and row.score > 80 for row in found)


# ------------------------------------------------------------------------------ without boards


def test_what_is_given_back_is_taken_by_who_waits() -> None:
    todo = Todo(Chunk({}, LABELS) for _ in range(2))
    first, second = todo.take(), todo.take()
    assert first is not None and second is not None
    taken: list[tuple[int, Chunk] | None] = []
    waits = threading.Thread(target=lambda: taken.append(todo.take()))
    waits.start()
    todo.done()
    assert waits.is_alive(), "one still runs, and may come back"
    todo.done(given_back=second)
    waits.join(20)
    assert taken == [second]
    todo.done()
    assert todo.take() is None


def test_addresses(tmp_path: Path) -> None:
    file = tmp_path / "boards.txt"
    file.write_text("xilinx@a  # on the bench\n\n# off: xilinx@c\nxilinx@b\n")
    for text in ("xilinx@a,xilinx@b", " xilinx@a, xilinx@b,", str(file)):
        assert [target.host for target in addresses(text, 22)] == ["xilinx@a", "xilinx@b"]
    for text in ("", ",", "a@b,a@b"):
        with pytest.raises(BadInput, match="allowed are addresses as user@a,user@b, each once"):
            addresses(text)
    with pytest.raises(BadInput, match="allowed is user@board"):
        addresses("-oProxyCommand=x")
