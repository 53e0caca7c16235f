# SPDX-License-Identifier: Apache-2.0
"""``bench/networks.py`` without the packages that it needs: metrics, sounds, and the driver.

In: small arrays with known answers, a network made here.  Out: scores, rows, verdicts.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from build_onnx import model, node
from conftest import ROOT

BENCH = ROOT / "bench"


@pytest.fixture(scope="module")
def driver() -> Any:
    """The module bench/networks.py, whose name the package beside it has too."""
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("networks_driver", BENCH / "networks.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def parts(driver: Any) -> Any:
    """The package's modules."""
    import networks
    from networks import base, images, ocr, pitch, sounds

    return SimpleNamespace(all=networks.NETWORKS, base=base, images=images, ocr=ocr, pitch=pitch,
                           sounds=sounds)  # fmt: skip


def small_network(parts: Any, evaluate: Any = None, name: str = "small") -> Any:
    """A network of one matrix product, judged by the largest of three outputs."""
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 8)).astype(np.float32)
    weights = random.normal(size=(8, 3)).astype(np.float32)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 8]}, ["y"], {"w": weights})
    labels = (x @ weights).argmax(1)

    def score(run: Any, reference: Any) -> Any:
        return parts.base.share(parts.base.only(run({"x": x}), len(x)).argmax(1) == labels)

    return parts.base.Network(
        name, "numpy", "BSD", "none", "largest output", lambda: parts.base.Loaded(proto),
        lambda: [{"x": x}], evaluate or score,
    )  # fmt: skip


# ---------------------------------------------------------------- descriptions


def test_every_network_says_where_it_comes_from(parts: Any) -> None:
    pinned = {
        text.split("==")[0]
        for text in (BENCH / "networks" / "requirements.txt").read_text().split("\n")
        if "==" in text and not text.startswith("#")
    }
    assert len(parts.all) >= 12
    for name, network in parts.all.items():
        assert network.licence and network.file and network.judged, name
        assert not network.package or network.package in pinned, name


def test_missing_packages_are_named(parts: Any) -> None:
    with pytest.raises(parts.base.Missing, match="no_such_package is not installed"):
        parts.base.package_folder("no_such_package")
    with pytest.raises(parts.base.Missing, match="numpy has no weights.onnx"):
        parts.base.package_file("numpy", "weights.onnx")


# ---------------------------------------------------------------- metrics


def test_inputs_of_a_feed(parts: Any) -> None:
    feed = {"a": np.zeros((3, 2)), "b": np.arange(3)[:, None]}
    assert [one["b"].item() for one in parts.base.split(feed)] == [0, 1, 2]
    state = {"a": np.zeros((1, 2)), "h": np.zeros((2, 1, 4))}  # one step with a packed state
    assert parts.base.split(state) == [state]


def test_inputs_one_after_the_other(parts: Any) -> None:
    """A scalar output has no batch that a run of many inputs could fill."""
    feed = {"x": np.arange(3.0)[:, None]}
    found = parts.base.alone(lambda one: {"y": np.float32(2 * one["x"].item())}, feed)
    assert found["y"].tolist() == [0, 2, 4]


def test_nearest_is_around_the_mean(parts: Any) -> None:
    # Around the origin all of these point the same way.
    centroids = np.array([[100.0, 1.0], [100.0, -1.0]])
    found = np.array([[101.0, 2.0], [99.0, -2.0], [100.0, 0.5]])
    assert parts.base.cosine_nearest(found, centroids).tolist() == [0, 1, 0]


def test_overlaps(parts: Any) -> None:
    a = np.array([[0, 0, 2, 2.0]])
    b = np.array([[0, 0, 2, 2.0], [1, 0, 3, 2], [2, 2, 3, 3], [0, 0, 2, 1]])
    assert parts.images.overlaps(a, b)[0] == pytest.approx([1, 1 / 3, 0, 0.5])


def test_best_boxes(parts: Any) -> None:
    boxes = np.array([[0, 0, 10, 10.0], [1, 0, 11, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    scores = np.array([[0.6, 0.1], [0.2, 0.9], [0.5, 0.1], [0.1, 0.2]])
    kept = parts.images.best_boxes(boxes, scores, 0.25, 0.45)
    assert kept[:, 4:].tolist() == [[0.9, 1], [0.5, 0]]
    assert kept[:, 0].tolist() == [1, 20]
    assert parts.images.best_boxes(boxes, scores, 0.95, 0.45).shape == (0, 6)


@pytest.mark.parametrize(
    ("change", "percent"),
    [
        (lambda b: b, 100.0),
        (lambda b: b[:1], 200 / 3),
        (lambda b: b + [0, 0, 0, 0, 0, 1], 0.0),  # other classes
        (lambda b: b + [6, 0, 6, 0, 0, 0], 0.0),  # IoU 1/4
        (lambda b: b[:0], 0.0),
    ],
)
def test_matched_boxes(parts: Any, change: Any, percent: float) -> None:
    boxes = np.array([[0, 0, 10, 10, 0.9, 1], [20, 20, 30, 30, 0.8, 0.0]])
    score = parts.images.matched([change(boxes)], [boxes])
    assert score.percent == pytest.approx(percent) and score.count == 2


def test_spelling(parts: Any) -> None:
    assert parts.ocr.spelled([0, 1, 1, 0, 1, 2, 2, 0], ["", "a", "b"]) == "aab"
    assert parts.ocr.spelled([0, 0], ["", "a"]) == ""


def test_boxes_of_a_map(parts: Any) -> None:
    maps = np.zeros((1, 20, 30))
    maps[0, 5:10, 4:20] = 0.9
    maps[0, 15, 2] = 0.9  # too small
    (boxes,) = parts.ocr.regions(maps)
    assert boxes.tolist() == [[3, 4, 21, 11]]


# ---------------------------------------------------------------- sounds


def test_mel_bands(parts: Any) -> None:
    bands = parts.sounds.mel_bands(400, 40)
    bins = np.fft.rfftfreq(400, 1 / parts.sounds.RATE)
    wide = bands[20:]  # narrow ones fall between bins
    assert (wide.sum(1) * bins[1]).tolist() == pytest.approx([1] * 20, rel=0.05)
    assert np.all(np.diff(bands.argmax(1)) >= 0)


def test_mel_power_of_a_tone(parts: Any) -> None:
    time = np.arange(parts.sounds.RATE) / parts.sounds.RATE
    mel = parts.sounds.mel_power(np.sin(2 * np.pi * 1000 * time), 400, 160, 40)
    bins = np.fft.rfftfreq(400, 1 / parts.sounds.RATE)
    loudest = parts.sounds.mel_bands(400, 40)[mel[50].argmax()]
    assert mel.shape == (101, 40)
    assert bins[loudest > 0].min() <= 1000 <= bins[loudest > 0].max()


def test_placed_parts(parts: Any) -> None:
    sound, speech = parts.sounds.placed([np.ones(3), np.ones(4)], [2, 1], 9)
    assert sound.tolist() == [0, 0, 1, 1, 1, 0, 1, 1, 1]  # the end of the second is cut off
    assert speech.tolist() == (sound > 0).tolist()


@pytest.mark.parametrize("kind", ["white", "pink", "hum"])
def test_noise_has_an_rms_of_one(parts: Any, kind: str) -> None:
    x = parts.sounds.noise(kind, 4000, np.random.default_rng(0)).astype(np.float64)
    assert np.sqrt((x**2).mean()) == pytest.approx(1, rel=1e-3)


def test_pitch_within_half_a_semitone(parts: Any) -> None:
    right = np.full(3, 440.0)
    found = right * 2 ** (np.array([0, 49, 51]) / 1200)
    assert parts.pitch.within(found, right).percent == pytest.approx(200 / 3)


def test_frequency_of_classes(parts: Any) -> None:
    salience = np.zeros((1, 360))
    salience[0, 100:102] = 1  # halfway between two classes of 20 cents
    cents = 1997.3794084376191 + 20 * 100.5
    assert parts.pitch.crepe_hertz(salience)[0] == pytest.approx(10 * 2 ** (cents / 1200))


# ---------------------------------------------------------------- the driver


@pytest.mark.parametrize(
    ("real", "found", "warned", "verdict"),
    [
        (100.0, 99.5, False, ""),
        (100.0, 98.9, False, "false comfort"),
        (20.0, 19.5, False, "false comfort"),  # half a point, but 2.5 % of it
        (100.0, 98.9, True, ""),
        (100.0, 99.6, True, "false alarm"),
        (50.0, 51.0, True, "false alarm"),
        (100.0, 98.99, True, ""),
    ],
)
def test_verdicts(driver: Any, real: float, found: float, warned: bool, verdict: str) -> None:
    result = driver.Result("n", "int8", "p", "MIT", "what", 100, real, found,
                           warnings=("loss",) * warned)  # fmt: skip
    assert result.verdict == verdict


@pytest.mark.parametrize(
    ("real", "found", "kept"),
    [(100.0, 99.0, True), (100.0, 98.9, False), (20.0, 19.5, True), (20.0, 19.4, False),
     (20.0, 40.0, True), (20.0, None, False)],
)  # fmt: skip
def test_what_is_as_good_as_float(driver: Any, real: float, found: Any, kept: bool) -> None:
    assert driver.Result("n", "int8", "p", "MIT", "what", 100, real, found).kept is kept


def some_results(driver: Any) -> list[Any]:
    """One network at two precisions, and one that is refused."""
    good = driver.Result("a", "int8", "p 1.0", "MIT", "top 1", 1200, 100.0, 98.5)
    warned = replace(good, precision="mixed", percent=100.0, warnings=("loss",), notes=("note",))
    refused = driver.Result("b", "int8", "q 2.0", "MIT", "words", 10, 50.0, refusal="no such op")
    return [good, warned, refused]


def test_summary_counts_by_precision(driver: Any) -> None:
    text = driver.results.summary(some_results(driver)).splitlines()
    assert text == [
        "int8: 1 judged, 1 refused; 0 within 0.5 points or 1 %; 1 false comfort, 0 false alarm",
        "mixed: 1 judged, 0 refused; 1 within 0.5 points or 1 %; 0 false comfort, 1 false alarm",
    ]


def test_table_of_a_page(driver: Any) -> None:
    assert driver.results.markdown(some_results(driver)).splitlines() == [
        "| network | package | licence | judged by | of | float, measured | int8, emulated "
        "| mixed, emulated |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `a` | p 1.0 | MIT | top 1 | 1,200 | 100.0 % | 98.5 % | 100.0 %, warned |",
        "| `b` | q 2.0 | MIT | words | 10 | 50.0 % | refused |  |",
    ]


def test_results_are_read_as_written(
    driver: Any, monkeypatch: Any, capsys: Any, tmp_path: Path
) -> None:
    found = some_results(driver)
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    driver.results.write(found[:2], paths[0])
    driver.results.write(found[2:], paths[1])
    assert driver.results.read(paths) == found
    names = ["networks.py", "--markdown", "--read", *map(str, paths)]
    monkeypatch.setattr(sys, "argv", names)
    driver.main()
    text = capsys.readouterr().out
    assert "no such op" in text and "| `a` | p 1.0 |" in text and "int8: 1 judged" in text


@pytest.mark.gxx
def test_a_run(driver: Any, parts: Any, monkeypatch: Any, capsys: Any, tmp_path: Any) -> None:
    def missing(run: Any, reference: Any) -> Any:
        raise parts.base.Missing("the package that is not there is not installed")

    def fails_in_integers(run: Any, reference: Any) -> Any:
        if run is not reference:
            raise ValueError("of one network")
        return parts.base.Score(100.0, 1)

    networks = {
        "gone": small_network(parts, missing, "gone"),
        "broken": small_network(parts, fails_in_integers, "broken"),
        "small": small_network(parts),
    }
    monkeypatch.setattr(driver, "NETWORKS", networks)
    path = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["networks.py", "--json", str(path), "--networks", *networks])
    driver.main()
    text = capsys.readouterr().out
    assert "left out: the package that is not there" in text
    assert "ValueError: of one network" in text
    assert "1 judged, 1 refused; " in text
    broken, small = json.loads(path.read_text())
    assert broken["name"] == "broken" and broken["percent"] is None
    assert any("relative error" in text for text in small["accuracy"])
    # Decisions of 32 random inputs: int8 may turn one that lies between two outputs.
    assert small["float_percent"] == 100 and small["loss"] <= 100 / 32
