# SPDX-License-Identifier: Apache-2.0
"""Sensors found and read in trees with the layout of the drivers ina2xx, iio-hwmon and pmbus."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.measure.hwmon import Absent, HwmonSource, open_board
from power_world import hwmon, iio_ina260, ina2xx, ina_files, pmbus

PAGES = (1.5, 2.5, 0.7, 3.5, 0.2)


def zcu104(root: Path, numbers: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    ina2xx(root, numbers[0], "5-0040", 14.0)
    pmbus(root, numbers[1], "4-0043", PAGES)
    pmbus(root, numbers[2], "4-0044", (9.0,) * 5)
    hwmon(root, numbers[3], {"name": "ams", "temp1_input": 50000})


def sources(board: str, root: Path) -> dict[str, HwmonSource]:
    return {source.name: source for source in open_board(load_board(board), root)[0]}


def absent(board: str, root: Path) -> dict[str, Absent]:
    return {one.name: one for one in open_board(load_board(board), root)[1]}


@pytest.mark.parametrize("numbers", tuple(permutations((0, 1, 2, 9)))[::5])
def test_numbers_do_not_matter(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    zcu104(tmp_path, numbers)
    found = sources("zcu104", tmp_path)
    assert {name: source.watts() for name, source in found.items()} == {"12V": 14.0, "INT": 1.5}
    assert found["12V"].update_s == 0.07 and found["INT"].update_s is None
    assert found["12V"].celsius() is None and found["INT"].celsius() == 41.5
    assert found["INT"].scope == "VCCINT" and found["INT"].sensor == "irps5401 at 0x43"
    assert not absent("zcu104", tmp_path)


def test_labels_count_where_the_kernel_numbers_inputs_by_page(tmp_path: Path) -> None:
    pmbus(tmp_path, 0, "6-0043", PAGES, inputs=5)
    found = sources("ultra96-v2", tmp_path)
    assert {name: source.watts() for name, source in found.items()} == {"INT": 3.5, "PSDDR": 0.7}
    assert absent("ultra96-v2", tmp_path)["5V"].reason.startswith("no hwmon sensor ir38060 at 0x45")


def test_a_chip_bound_to_the_general_pmbus_driver(tmp_path: Path) -> None:
    pmbus(tmp_path, 0, "6-0043", PAGES, name="pmbus")
    pmbus(tmp_path, 1, "6-0044", (9.0,) * 5, name="pmbus")
    assert sources("ultra96-v2", tmp_path)["INT"].watts() == 3.5


@pytest.mark.parametrize(
    "make",
    (
        lambda root: iio_ina260(root, 3, 4.8),
        lambda root: ina2xx(root, 3, "1-0040", 4.8, 5.0, name="ina260", label="ina260-u14"),
    ),
    ids=("iio-hwmon", "ina2xx with a label"),
)
def test_som(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path)
    assert sources("kv260", tmp_path)["SOM"].watts() == pytest.approx(4.8, abs=1e-6)  # uW


def test_iio_counts_the_shunt_first(tmp_path: Path) -> None:
    """in1 of a few mV is the shunt; taken for the bus, it would make the power far too small."""
    shifted = {"name": "ina226_u79", "in1_input": 3, "in2_input": 12000}
    hwmon(tmp_path, 0, {**ina_files(6.0, 12.0), **shifted})
    assert sources("zcu104", tmp_path)["12V"].watts() == 6.0
    (tmp_path / "class/hwmon/hwmon0/power1_input").unlink()
    assert sources("zcu104", tmp_path)["12V"].watts() == pytest.approx(6.0)


def test_families_of_chips(tmp_path: Path) -> None:
    ina2xx(tmp_path, 0, "3-0041", 9.0, 3.3, name="ina220")
    ina2xx(tmp_path, 1, "3-0040", 7.5, 0.85, name="ina220")
    assert sources("rfsoc4x2", tmp_path)["VCC_0V85"].watts() == 7.5


def test_current_gives_power_its_sign(tmp_path: Path) -> None:
    ina2xx(tmp_path, 0, "5-0040", -2.0)
    assert sources("zcu104", tmp_path)["12V"].watts() == -2.0


def test_volts_times_amperes_where_there_is_no_power(tmp_path: Path) -> None:
    folder = ina2xx(tmp_path, 0, "5-0040", 6.0)
    (folder / "power1_input").unlink()
    # the current is in integer mA
    assert sources("zcu104", tmp_path)["12V"].watts() == pytest.approx(6.0, abs=12e-3)


@pytest.mark.parametrize("factor", (1e-3, 0.25, 4, 1e3))
def test_a_wrong_unit_is_refused(tmp_path: Path, factor: float) -> None:
    ina2xx(tmp_path, 0, "5-0040", 14.0, power1_input=round(14e6 * factor))
    reason = absent("zcu104", tmp_path)["12V"].reason
    assert "power1_input in uW says" in reason and "volts x amperes say 14" in reason


def test_several_sensors_fit(tmp_path: Path) -> None:
    for number in range(2):
        hwmon(tmp_path, number, {"name": f"ina226_u{number}", **ina_files(3.0, 12.0)})
    reason = absent("zcu104", tmp_path)["12V"].reason
    assert reason == "2 hwmon sensors fit ina226 at 0x40: ina226_u0, ina226_u1"


def test_a_longer_name_is_another_chip(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, {"name": "ina2260", **ina_files(3.0, 12.0)})
    assert "no hwmon sensor ina226" in absent("zcu104", tmp_path)["12V"].reason


def test_a_missing_channel(tmp_path: Path) -> None:
    pmbus(tmp_path, 0, "6-0043", PAGES[:2])
    reason = absent("ultra96-v2", tmp_path)["INT"].reason
    assert reason.startswith("irps5401 at 0x43 has no power labelled pout4")


@pytest.mark.parametrize("text", ("", "12.5", "N/A"))
def test_no_number_in_a_file(tmp_path: Path, text: str) -> None:
    ina2xx(tmp_path, 0, "5-0040", power1_input=text)
    assert "found no integer" in absent("zcu104", tmp_path)["12V"].reason


@pytest.mark.parametrize("text", ("", "0", "fast", "-5", "9" * 5000, "\u0665"))
def test_an_interval_that_is_none(tmp_path: Path, text: str) -> None:
    ina2xx(tmp_path, 0, "5-0040", update_interval=text)
    assert sources("zcu104", tmp_path)["12V"].update_s is None


def test_links_in_a_circle(tmp_path: Path) -> None:
    zcu104(tmp_path)
    odd = tmp_path / "class" / "hwmon" / "hwmon7"
    odd.mkdir()
    (odd / "device").symlink_to("device")
    (tmp_path / "class" / "hwmon" / "hwmon8").symlink_to("hwmon8")
    assert not absent("zcu104", tmp_path)


@pytest.mark.parametrize("name", board_names())
def test_every_rail_of_every_board_is_absent_with_a_reason(tmp_path: Path, name: str) -> None:
    board = load_board(name)
    found, missing = open_board(board, tmp_path)
    assert not found and len(missing) == max(len(board.power), 1)
    wanted = "no hwmon sensor" if board.power else "external meter (--meter log.csv)"
    assert all(wanted in one.reason for one in missing)


@pytest.mark.parametrize("name", board_names())
def test_rails_name_rails_of_the_same_board(name: str) -> None:
    rails = load_board(name).power
    names = [rail.name for rail in rails]
    assert len(set(names)) == len(names)
    assert all(set(rail.feeds) <= set(names) - {rail.name} for rail in rails)
