# SPDX-License-Identifier: Apache-2.0
"""The driver's access to the four kernels, on registers with given values.

In: values of registers.  Out: the order of starts, counters, and faults by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from neuralmatrix.errors import DeviceFault, WrongOverlay
from neuralmatrix.hardware.overlay_folder import BIT
from neuralmatrix.hardware.registers import GIE, IER, ISR

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]

ENDED = {"load": 700, "compute": 1500, "store": 1200}
RETIRED = {"load": 5, "compute": 7, "store": 3}
READ = {"fetch": 0x89ABCDEF, "load": 12345}


@dataclass
class FakeKernel:
    """Registers by name; ``log`` gets the kernel's name when it is started."""

    name: str
    registers: Mapping[str, int]
    log: list[str] = field(default_factory=list)

    def get(self, name: str) -> int:
        return self.registers[name]

    get64 = get

    def start(self) -> None:
        self.log.append(self.name)


def made(log: list[str] | None = None, **changed: Mapping[str, int]) -> Any:
    """Make ``Kernels`` whose run began in cycle 200."""
    from neuralmatrix.runtime.pynq.kernels import Kernels

    registers: dict[str, dict[str, int]] = {
        "fetch": {"fault": 0, "began": 200, "checksum": READ["fetch"]}
    }
    for i, (name, ended) in enumerate(ENDED.items()):
        registers[name] = {"fault": 0, "ended": ended, "retired": RETIRED[name], "busy": 100 + i}
    registers["load"]["checksum"] = READ["load"]
    kernels = object.__new__(Kernels)
    kernels.fetch, *units = (
        FakeKernel(name, values | changed.get(name, {}), [] if log is None else log)
        for name, values in registers.items()
    )
    kernels.units = tuple(units)
    kernels.all = (kernels.fetch, *units)
    return kernels


def job() -> Any:
    from neuralmatrix.runtime.pynq.kernels import Job

    return Job(16, tuple(RETIRED.values()), READ, 0, 0)


def test_a_run_ends_with_the_unit_that_ends_last() -> None:
    found = made().counters(job())
    assert found.cycles == 1500 - 200
    assert found.busy == {"load": 100, "compute": 101, "store": 102}


@pytest.mark.parametrize("name", RETIRED)
def test_every_unit_runs_all_of_its_own_instructions(name: str) -> None:
    """A missing instruction is an error even if another unit ran more."""
    other = next(unit for unit in RETIRED if unit != name)
    less, more = {"retired": RETIRED[name] - 1}, {"retired": RETIRED[other] + 1}
    with pytest.raises(DeviceFault, match=f"ended early: found .*{name} {RETIRED[name] - 1}"):
        made(**{name: less, other: more}).counters(job())


@pytest.mark.parametrize("name", ("fetch", *RETIRED))
@pytest.mark.parametrize(
    ("bits", "text"),
    (
        (1, "an access outside of its region was refused"),
        (2, "an unknown instruction was skipped"),
        (3, "was refused and an unknown instruction"),
        (8, "an unknown reason"),
    ),
)
def test_faults_are_named(name: str, bits: int, text: str) -> None:
    with pytest.raises(DeviceFault, match=f"{name} stopped with fault 0x{bits}: .*{text}"):
        made(**{name: {"fault": bits}}).counters(job())


@pytest.mark.parametrize(("name", "what"), (("fetch", "instructions"), ("load", "constants")))
def test_what_is_read_must_be_the_program(name: str, what: str) -> None:
    found = f"found checksum 0x00000007, the program has {READ[name]:#010x}"
    with pytest.raises(DeviceFault, match=f"{name} read {what} that differ from .*: {found}"):
        made(**{name: {"checksum": 7}}).counters(job())


@pytest.mark.parametrize("also", ({"retired": 0, "checksum": 0}, {"fault": 1}))
def test_wrong_instructions_explain_what_came_of_them(also: dict[str, int]) -> None:
    with pytest.raises(DeviceFault, match="fetch read instructions"):
        made(fetch={"checksum": 0}, load=also).counters(job())


def test_loads_that_did_not_run_explain_the_constants_that_were_not_read() -> None:
    with pytest.raises(DeviceFault, match="ended early"):
        made(load={"retired": 0, "checksum": 0}).counters(job())


def test_a_long_program_may_run_longer() -> None:
    """The time-out is five seconds, and twenty times the units' work at the clock."""
    from neuralmatrix.runtime.pynq.kernels import Job

    assert Job(1, (1, 1, 1), READ, 0, 300_000_000).timeout(100.0) == 5 + 20 * 3
    assert Job(1, (1, 1, 1), READ, 0, 300_000_000).timeout(50.0) == 5 + 20 * 6


def test_clearing_an_interrupt_raises_none(board: Any) -> None:
    """The bits of ISR toggle when they are written."""
    import pynq
    from neuralmatrix.runtime.pynq import ip_drivers  # noqa: F401  # binds the drivers

    store = pynq.Overlay(str(board.overlay / BIT)).store_0
    for _ in range(2):
        store.enable_interrupt()
        assert [store.read(offset) for offset in (GIE, IER, ISR)] == [1, 1, 0]
    board.device.array.blocks["store"].finish()
    assert store.read(ISR) == 1
    for _ in range(2):
        store.clear_interrupt()
        assert store.read(ISR) == 0


def test_units_are_started_before_fetch_feeds_them() -> None:
    log: list[str] = []
    made(log).start()
    assert log == ["load", "compute", "store", "fetch"]


def test_an_overlay_of_something_else() -> None:
    from neuralmatrix.runtime.pynq.kernels import Kernels

    overlay: Any = SimpleNamespace(ip_dict={"dma_0": {}}, bitfile_name="base.bit")
    with pytest.raises(WrongOverlay, match="base.bit: found no neuralmatrix kernel fetch_0 among"):
        Kernels(overlay)
