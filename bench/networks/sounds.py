# SPDX-License-Identifier: Apache-2.0
"""Speech, noise and tones at 16 kHz, made here.

In: texts, voices of espeak-ng, levels, seeds.  Out: float32 waves in -1..1, mel spectra.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from .base import Array, Missing

RATE = 16000
# One half of the voices and words calibrates, the other is tested.
CALIBRATION_VOICES = ("en-us+adam", "en-us+linda", "en-gb+robert", "en-us+steph2", "en-gb+max")
TEST_VOICES = (
    "en-us+Alicia", "en-gb+benjamin", "en-us+Michael", "en-gb+Annie", "en-us+f3",
    "en-gb+m4", "en-us+klatt2", "en-gb-scotland+Andy",
)  # fmt: skip
CALIBRATION_TEXTS = (
    "the train to the coast leaves at nine", "please put the letters on my desk",
    "a cold wind came down from the mountain", "she bought two pounds of green apples",
    "they painted the wall before lunch", "nobody knew where the key was",
    "this road goes past the old mill", "we will need another box of nails",
)  # fmt: skip
TEST_TEXTS = (
    "my brother plays the violin every evening", "open the window and let some air in",
    "there were seven boats in the harbour", "the doctor said he should rest for a week",
    "can you tell me how far it is", "most birds fly south in the autumn",
    "I left my umbrella in the restaurant", "the recipe asks for a cup of sugar",
    "our neighbours have a large black dog", "turn left after the second bridge",
)  # fmt: skip


@lru_cache(maxsize=4096)
def spoken(text: str, voice: str = "en-us", speed: int = 160, pitch: int = 50) -> Array:
    """Speak a text; the peak is 1, silence at the ends is cut off."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise Missing("the program espeak-ng is not installed")
    from scipy.signal import resample_poly

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        numbers = ["-s", str(speed), "-p", str(pitch)]
        subprocess.run([program, "-v", voice, *numbers, "-w", str(path), text], check=True)
        with wave.open(str(path)) as file:
            rate, data = file.getframerate(), file.readframes(file.getnframes())
    found = resample_poly(np.frombuffer(data, np.int16) / 32768, RATE, rate)
    found = found / np.abs(found).max()
    heard = np.flatnonzero(np.abs(found) > level(-40))
    return found[heard[0] : heard[-1] + 1].astype(np.float32)


def noise(kind: str, samples: int, random: np.random.Generator) -> Array:
    """Make noise with an RMS of 1: "white", "pink" or "hum" (50 Hz, its harmonics, some white)."""
    white = random.standard_normal(samples)
    if kind == "pink":
        spectrum = np.fft.rfft(white)
        white = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), samples)
    elif kind == "hum":
        time = np.arange(samples) / RATE
        white = 0.1 * white + sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3, 5))
    return (white / np.sqrt((white**2).mean())).astype(np.float32)


def level(db: float) -> float:
    """Return the amplitude of a level in dB of full scale."""
    return float(10 ** (db / 20))


def placed(parts: list[Array], gaps: list[int], samples: int) -> tuple[Array, Array]:
    """Place parts one after the other with gaps before them; return wave and where it sounds."""
    sound, speech = np.zeros(samples, np.float32), np.zeros(samples, bool)
    begin = 0
    for part, gap in zip(parts, gaps, strict=True):
        begin += gap
        room = part[: max(samples - begin, 0)]
        sound[begin : begin + len(room)] = room
        speech[begin : begin + len(room)] = True
        begin += len(part)
    return sound, speech


@cache
def mel_bands(fft: int, bands: int) -> Array:
    """Return Slaney's mel filters, (bands, fft // 2 + 1), each of area 1."""

    def hertz(mel: Array) -> Array:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))

    top = 15 + np.log(RATE / 2 / 1000) / (np.log(6.4) / 27)
    edges = hertz(np.linspace(0, top, bands + 2))
    bins = np.fft.rfftfreq(fft, 1 / RATE)
    ramps = edges[:, None] - bins
    widths = np.diff(edges)[:, None]
    triangles = np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]).clip(0)
    return np.asarray(triangles * (2 / (edges[2:] - edges[:-2]))[:, None])


def mel_power(sound: Array, fft: int, hop: int, bands: int) -> Array:
    """Return the mel power spectrum, (1 + samples // hop, bands), with Hann windows, centred."""
    padded = np.pad(sound, fft // 2)
    count = 1 + len(sound) // hop
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    index = (np.arange(count) * hop)[:, None] + np.arange(fft)
    padded = np.pad(padded, (0, max(0, int(index.max()) + 1 - len(padded))))
    power = np.abs(np.fft.rfft(padded[index] * window, axis=1)) ** 2
    return np.asarray(power @ mel_bands(fft, bands).T)
