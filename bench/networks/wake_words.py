# SPDX-License-Identifier: Apache-2.0
"""Wake words: openWakeWord's spectrogram, speech embedding and detectors.

In: spoken phrases with noise.  Out: ``NETWORKS``.  Detectors get float embeddings, so that each
network is judged alone.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from . import base, sounds
from .base import Array, Feed, Loaded, Network, Run, Score

MODULE, FOLDER = "openwakeword", "resources/models"
LICENCE = "CC BY-NC-SA 4.0"
WINDOW, STEP = 76, 8  # frames of 10 ms
OFFSETS = 4  # detector windows in which a phrase may end
WORDS = ("lights", "music", "stop", "seven", "kitchen", "forward", "yellow", "tomorrow",
         "telephone", "marmalade")  # fmt: skip
OTHER_WORDS = ("garden", "left", "winter", "number", "paper", "crocodile", "eleven", "purple",
               "harbour", "go")  # fmt: skip


def features(sound: Array) -> Array:
    """Return openWakeWord's spectrogram of a wave in -1..1, (frames, 32)."""
    run = base.float_part(MODULE, f"{FOLDER}/melspectrogram.onnx")
    scaled = (sound * 32767).round().astype(np.float32)
    return next(iter(run({"input": scaled[None]}).values())).reshape(-1, 32) / 10 + 2


def windows(frames: Array) -> Array:
    """Return the inputs of the embedding, (N, 76, 32, 1)."""
    begins = range(0, len(frames) - WINDOW + 1, STEP)
    return np.stack([frames[b : b + WINDOW] for b in begins])[..., None].astype(np.float32)


@lru_cache(maxsize=2048)
def clip(text: str, voice: str, db: float, seed: int, lead: float) -> Array:
    """Return a phrase after ``lead`` seconds of noise, 0.4 s before the end."""
    speech = sounds.spoken(text, voice)
    sound = np.pad(speech, (int(lead * sounds.RATE), int(0.4 * sounds.RATE)))
    kind = ("white", "pink", "hum")[seed % 3]
    random = np.random.default_rng(seed)
    sound = sound + sounds.noise(kind, len(sound), random) * sounds.level(-40 + 5 * (seed % 4))
    return np.asarray((sound * sounds.level(db)).clip(-1, 1))


# ---------------------------------------------------------------- spectrogram

SAMPLES = 1760  # one step of 1280 samples and what the windows reach back


def spectrogram_feed(words: tuple[str, ...], voices: tuple[str, ...]) -> Feed:
    """Return pieces of phrases at -40 to 0 dB, (N, 1760)."""
    pieces = []
    for k, word in enumerate(words):
        for j, voice in enumerate(voices[:6]):
            sound = clip(word, voice, -8.0 * ((k + j) % 6), k + j, 0.2)
            begin = sounds.RATE // 5 + 400 * j
            pieces.append((sound[begin : begin + SAMPLES] * 32767).round())
    return {"input": np.stack(pieces).astype(np.float32)}


def load_spectrogram() -> Loaded:
    model = base.onnx_file(MODULE, f"{FOLDER}/melspectrogram.onnx")
    return Loaded(model, {"input": (1, SAMPLES)})


def spectrogram_score(run: Run, reference: Run) -> Score:
    """Return the share of bins within 1 dB of the float network's."""
    feed = spectrogram_feed(WORDS, sounds.TEST_VOICES)
    found, right = (base.only(each(feed), len(feed["input"])) for each in (run, reference))
    return base.share(np.abs(found - right) <= 1)


# ---------------------------------------------------------------- embedding


def word_windows(words: tuple[str, ...], voices: tuple[str, ...]) -> Array:
    """Return one window per word and voice that ends with the word, (N, 76, 32, 1)."""
    found = [windows(features(clip(word, voice, -6.0 * ((k + j) % 5), k + j, 0.8)))[-4]
             for k, word in enumerate(words) for j, voice in enumerate(voices)]  # fmt: skip
    return np.stack(found)


def load_embedding() -> Loaded:
    model = base.onnx_file(MODULE, f"{FOLDER}/embedding_model.onnx")
    return Loaded(model, {"input_1": (1, WINDOW, 32, 1)})


def embedding_score(run: Run, reference: Run) -> Score:
    """Return how often the most similar of the enrolled words is the right one."""
    enrolled, tested = sounds.TEST_VOICES[::2], sounds.TEST_VOICES[1::2] + ("en-us", "en-gb")
    known = word_windows(WORDS, enrolled)
    vectors = base.only(reference({"input_1": known}), len(known))
    centroids = vectors.reshape(len(WORDS), len(enrolled), -1).mean(1)
    x = word_windows(WORDS, tested)
    nearest = base.cosine_nearest(base.only(run({"input_1": x}), len(x)), centroids)
    return base.share(nearest == np.repeat(np.arange(len(WORDS)), len(tested)))


# ---------------------------------------------------------------- detectors


@lru_cache(maxsize=2048)
def phrase_windows(text: str, voice: str, seed: int, length: int) -> Array:
    """Return the detector's inputs around the end of a phrase, (OFFSETS, length, 96)."""
    run = base.float_part(MODULE, f"{FOLDER}/embedding_model.onnx")
    lead = (WINDOW + STEP * (length + OFFSETS)) / 100
    x = windows(features(clip(text, voice, -4.0 * (seed % 6), seed, lead)))
    vectors = base.only(run({"input_1": x}), len(x))
    ends = range(len(vectors) - OFFSETS + 1, len(vectors) + 1)
    return np.stack([vectors[end - length : end] for end in ends])


def detector(name: str, phrases: tuple[str, ...], length: int = 16) -> Network:
    """Describe a detector; ``phrases`` are heard as classes 1, 2, ... and all else as 0."""
    file = f"{FOLDER}/{name}_v0.1.onnx"

    def load() -> Loaded:
        model = base.onnx_file(MODULE, file)
        return Loaded(model, {model.graph.input[0].name: (1, length, 96)})

    def feed(x: Array) -> Feed:
        return {base.onnx_file(MODULE, file).graph.input[0].name: x}

    def calibration() -> list[Feed]:
        texts = (*phrases[:3], *sounds.CALIBRATION_TEXTS[:3], *OTHER_WORDS[:3])
        x = [phrase_windows(text, voice, k + j, length)[(k + j) % OFFSETS]
             for k, text in enumerate(texts)
             for j, voice in enumerate(sounds.CALIBRATION_VOICES)]  # fmt: skip
        return [feed(np.stack(x))]

    return Network(
        f"wake_{name}", "openwakeword", LICENCE, file, "phrases told from others",
        load, calibration, partial(_detector_score, phrases, length, feed),
    )  # fmt: skip


def _detector_score(
    phrases: tuple[str, ...], length: int, feed: object, run: Run, reference: Run
) -> Score:
    """Return the accuracy over the phrases and as many other texts."""
    assert callable(feed)
    voices = sounds.TEST_VOICES
    repeats = max(1, 6 // len(phrases))
    positive = [(text, voice, k + 7 * r, k + 1) for k, text in enumerate(phrases)
                for r in range(repeats) for voice in voices]  # fmt: skip
    others = (*WORDS, *sounds.TEST_TEXTS)[: len(phrases) * repeats]
    negative = [(text, v, k, 0) for k, text in enumerate(others) for v in voices]
    cases = positive + negative
    x = np.concatenate([phrase_windows(text, v, seed, length) for text, v, seed, _ in cases])
    scores = base.only(run(feed(x)), len(x)).reshape(len(cases), OFFSETS, -1)
    labels = np.array([label for *_, label in cases])
    if scores.shape[-1] == 1:
        return base.share((scores.max((1, 2)) > 0.5) == (labels > 0))
    best = scores[:, :, 1:].max(1)  # class 0 is all else
    return base.share(np.where(best.max(1) > 0.5, best.argmax(1) + 1, 0) == labels)


TIMERS = (
    "set a one minute timer", "set a five minute timer", "set a ten minute timer",
    "set a twenty minute timer", "set a thirty minute timer", "set a one hour timer",
)  # fmt: skip

NETWORKS = (
    Network("wake_spectrogram", "openwakeword", LICENCE, f"{FOLDER}/melspectrogram.onnx",
            "mel bins within 1 dB of the float network's", load_spectrogram,
            lambda: [spectrogram_feed(OTHER_WORDS, sounds.CALIBRATION_VOICES)],
            spectrogram_score),
    Network("wake_embedding", "openwakeword", LICENCE, f"{FOLDER}/embedding_model.onnx",
            "spoken word named, of 10", load_embedding,
            lambda: [{"input_1": word_windows(OTHER_WORDS, sounds.CALIBRATION_VOICES)}],
            embedding_score),
    detector("alexa", ("alexa",)),
    detector("hey_mycroft", ("hey my croft",)),
    detector("hey_marvin", ("hey marvin",)),
    detector("hey_jarvis", ("hey jarvis",)),
    detector("weather", ("what's the weather",), 22),
    detector("timer", TIMERS, 34),
)  # fmt: skip
