# SPDX-License-Identifier: Apache-2.0
"""Speech: voice activity with recurrent state, speakers, quality of a recording.

In: spoken sentences with noise at -40 to 0 dB.  Out: ``NETWORKS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from . import base, sounds
from .base import Array, Feed, Loaded, Network, Run, Score

CHUNK, CONTEXT = 512, 64  # samples of a step of voice activity
LEVELS = (-40, -30, -24, -18, -12, -6, -3, 0)  # dB of the peak of speech


# ---------------------------------------------------------------- voice activity


@cache
def recordings(part: str) -> tuple[Array, ...]:
    """Return recordings of 6 s at all levels: pauses, sentences, noise 10 to 30 dB below."""
    test = part == "test"
    voices = sounds.TEST_VOICES if test else sounds.CALIBRATION_VOICES
    texts = sounds.TEST_TEXTS if test else sounds.CALIBRATION_TEXTS
    random, found = np.random.default_rng(2 if test else 1), []
    for k, db in enumerate(LEVELS):
        parts = [sounds.spoken(texts[(k + j) % len(texts)], voices[(k + 3 * j) % len(voices)])
                 for j in range(2)]  # fmt: skip
        gaps = [int(g) for g in random.integers(8000, 20000, 2)]
        sound, _ = sounds.placed(parts, gaps, 6 * sounds.RATE)
        kind = ("white", "pink", "hum")[k % 3]
        sound += sounds.noise(kind, len(sound), random) * sounds.level(-20 - 10 * (k % 3))
        found.append((sound * sounds.level(db)).clip(-1, 1))
    return tuple(found)


def chunks(sound: Array) -> Iterator[Array]:
    """Yield the network's inputs: 64 samples of context, 512 new ones."""
    padded = np.pad(sound, (CONTEXT, 0))
    for begin in range(0, len(sound) - CHUNK + 1, CHUNK):
        yield padded[begin : begin + CONTEXT + CHUNK][None]


def closed_loop(run: Run, sound: Array, states: dict[str, str]) -> tuple[list[float], list[Feed]]:
    """Run over a recording, feeding states back; return probabilities and the feeds.

    ``states`` names the output that becomes each input.
    """
    shape = (2, 1, 128) if "state" in states else (1, 1, 128)
    held = {name: np.zeros(shape, np.float32) for name in states}
    probabilities, feeds = [], []
    for chunk in chunks(sound):
        feeds.append({"input": chunk, **held})
        answers = run(feeds[-1])
        held = {name: answers[output].reshape(shape) for name, output in states.items()}
        (rest,) = set(answers) - set(states.values())
        probabilities.append(float(answers[rest].ravel()[0]))
    return probabilities, feeds


def activity_calibration(load: Any, states: dict[str, str]) -> list[Feed]:
    """Return 64 steps of the float network in closed loop, spread over all recordings."""
    run, feeds = base.float_run(load()), []
    for sound in recordings("calibration"):
        feeds += closed_loop(run, sound, states)[1]
    return feeds[:: len(feeds) // 64]


def activity_score(run: Run, reference: Run, states: dict[str, str]) -> Score:
    """Return how often decisions at 0.5 equal the float network's, speech and pauses equally."""
    found, right = [], []
    for sound in recordings("test"):
        found += [p > 0.5 for p in closed_loop(run, sound, states)[0]]
        right += [p > 0.5 for p in closed_loop(reference, sound, states)[0]]
    equal, speech = np.equal(found, right), np.array(right)
    return Score(50 * float(equal[speech].mean() + equal[~speech].mean()), len(right))


def activity(name: str, file: str, load: Any, states: dict[str, str]) -> Network:
    """Describe a network for voice activity."""
    return Network(
        name, "silero-vad", "MIT", file, "decisions at 0.5 equal in closed loop, balanced",
        load, lambda: activity_calibration(load, states),
        lambda run, reference: activity_score(run, reference, states),
    )  # fmt: skip


def load_packed() -> Loaded:
    """Return Silero VAD with h and c in one state, (2, 1, 128)."""
    model = base.onnx_file("silero_vad", "data/silero_vad_16k_op15.onnx")
    shapes = {"input": (1, CONTEXT + CHUNK), "state": (2, 1, 128)}
    return Loaded(model, shapes, {"sr": np.array(sounds.RATE, np.int64)})


def load_sequence() -> Loaded:
    """Return Silero VAD with an LSTM node and separate states, one step."""
    model = base.onnx_file("silero_vad", "data/silero_vad_16k_sequence.onnx")
    return Loaded(model, {"input": (1, CONTEXT + CHUNK)})


# ---------------------------------------------------------------- speakers

FRAMES = 160
SPEAKERS = (
    "en-us+Alicia", "en-gb+benjamin", "en-us+Michael", "en-gb+Annie", "en-us+f3",
    "en-gb+m4", "en-us+klatt2", "en-gb-scotland+Andy", "en-us+Storm", "en-gb+grandma",
)  # fmt: skip
OTHER_SPEAKERS = (
    "en-us+adam", "en-us+linda", "en-gb+robert", "en-us+steph2", "en-gb+max", "en-us+klatt",
    "en-gb+f1", "en-us+boris",
)  # fmt: skip


def load_speaker() -> Loaded:
    """Return Resemblyzer's speaker encoder: a three-layer LSTM over 160 frames."""
    import torch

    net = _speaker_encoder(torch)
    mels = torch.rand(1, FRAMES, 40)
    return Loaded(base.exported(net, mels, names=["mels"], outputs=["embedding"]))


def _speaker_encoder(torch: Any) -> Any:
    """Return the module of resemblyzer/voice_encoder.py, which imports much that is not needed."""

    class VoiceEncoder(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
            self.linear = torch.nn.Linear(256, 256)

        def forward(self, mels: Any) -> Any:
            _, (hidden, _) = self.lstm(mels)
            raw = self.linear(hidden[-1]).relu()
            return raw / torch.norm(raw, dim=1, keepdim=True)

    path = base.package_file("resemblyzer", "pretrained.pt")
    net = VoiceEncoder()
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    net.load_state_dict(state, strict=False)
    return net


def utterance(text: str, voice: str, db: float) -> Array:
    """Return the mel spectrum of the first 1.6 s of a sentence at ``db``, (1, 160, 40)."""
    sound = sounds.spoken(text, voice)[: FRAMES * 160]
    sound = np.pad(sound, (0, FRAMES * 160 - len(sound))) * sounds.level(db)
    sound = np.maximum(sounds.level(-30) / (np.sqrt((sound**2).mean()) + 1e-9), 1) * sound
    return sounds.mel_power(sound, 400, 160, 40)[None, :FRAMES].astype(np.float32)


def speaker_calibration() -> list[Feed]:
    return [
        {"mels": utterance(text, voice, LEVELS[k % len(LEVELS)])}
        for k, text in enumerate(sounds.CALIBRATION_TEXTS[:5])
        for voice in OTHER_SPEAKERS
    ]


def speaker_score(run: Run, reference: Run) -> Score:
    """Return how often the most similar of the enrolled speakers is the right one."""
    enrolment = sounds.TEST_TEXTS[:4]
    centroids = np.stack([
        np.mean([base.only(reference({"mels": utterance(text, voice, -6)}), 1)[0]
                 for text in enrolment], 0) for voice in SPEAKERS
    ])  # fmt: skip
    labelled = [(utterance(text, voice, LEVELS[(i + k) % len(LEVELS)]), i)
                for i, voice in enumerate(SPEAKERS)
                for k, text in enumerate(sounds.TEST_TEXTS[4:])]  # fmt: skip
    mels = np.concatenate([mel for mel, _ in labelled])
    found = base.only(run({"mels": mels}), len(mels))
    return base.share(base.cosine_nearest(found, centroids) == [label for _, label in labelled])


# ---------------------------------------------------------------- quality

SECONDS = 9.01


def clips(part: str, count: int) -> list[Array]:
    """Return recordings of 9.01 s with noise 0 to 40 dB below the speech."""
    test = part == "test"
    voices = sounds.TEST_VOICES if test else sounds.CALIBRATION_VOICES
    texts = sounds.TEST_TEXTS if test else sounds.CALIBRATION_TEXTS
    random, found = np.random.default_rng(4 if test else 3), []
    samples = int(SECONDS * sounds.RATE)
    for k in range(count):
        voice = voices[k % len(voices)]
        parts = [sounds.spoken(texts[(k + j) % len(texts)], voice) for j in range(4)]
        sound, _ = sounds.placed(parts, [4000] * 4, samples)
        kind = ("white", "pink", "hum")[k % 3]
        sound += sounds.noise(kind, samples, random) * sounds.level(-20 - 40 * random.random())
        found.append((sound * sounds.level(-20 * random.random())).clip(-1, 1))
    return found


def listened(sound: Array) -> Array:
    """Return the input of DNSMOS P.808: decibels of the mel spectrum, (1, 900, 120)."""
    mel = sounds.mel_power(sound[:-160], 321, 160, 120)
    decibels = 10 * np.log10(np.maximum(mel, 1e-10) / mel.max())
    return ((decibels.clip(-80) + 40) / 40)[None, :900].astype(np.float32)


def heard(sound: Array) -> Array:
    """Return the input of PLCMOS: log-power spectra, (1, 1, 200, 257)."""
    window = np.hamming(513)[:-1]
    index = (np.arange(200) * 256)[:, None] + np.arange(512)
    amplitude = np.abs(np.fft.rfft(sound[index] * window, axis=1))
    return (np.log(np.maximum(amplitude**2, 1e-12)) / 20)[None, None].astype(np.float32)


def quality(
    name: str, file: str, shape: tuple[int, ...], feature: Any, tests: int, **constants: Array
) -> Network:
    """Describe a network that estimates a mean opinion score."""

    def load() -> Loaded:
        model = base.onnx_file("speechmos", file)
        return Loaded(model, {_first_input(model): shape}, constants)

    def feeds(part: str, count: int) -> Feed:
        arrays = np.concatenate([feature(sound) for sound in clips(part, count)])
        return {_first_input(base.onnx_file("speechmos", file)): arrays}

    def score(run: Run, reference: Run) -> Score:
        feed = feeds("test", tests)
        found, right = (base.only(base.alone(each, feed), tests) for each in (run, reference))
        return base.share(np.abs(found - right) <= 0.1)

    return Network(name, "speechmos", "MIT", file, "scores within 0.1 of the float network's",
                   load, lambda: [feeds("calibration", 32)], score)  # fmt: skip


def _first_input(model: Any) -> str:
    return str(model.graph.input[0].name)


RATER = np.zeros((1, 64), np.float32)  # the mean of the raters that PLCMOS draws

NETWORKS = (
    activity("silero_vad", "data/silero_vad_16k_op15.onnx", load_packed, {"state": "stateN"}),
    activity("silero_vad_sequence", "data/silero_vad_16k_sequence.onnx", load_sequence,
             {"h": "hn", "c": "cn"}),
    Network("resemblyzer", "resemblyzer", "Apache-2.0", "pretrained.pt",
            "speaker named, of 10", load_speaker, speaker_calibration, speaker_score),
    quality("dnsmos_p808", "dnsmos_models/model_v8.onnx", (1, 900, 120), listened, 96),
    quality("dnsmos", "dnsmos_models/sig_bak_ovr.onnx", (1, int(SECONDS * sounds.RATE)),
            lambda sound: sound[None].astype(np.float32), 16),
    quality("plcmos", "plcmos_models/plcmos_v2.onnx", (1, 1, 200, 257), heard, 96,
            rater_embed=RATER),
)  # fmt: skip
