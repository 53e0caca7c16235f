# SPDX-License-Identifier: Apache-2.0
"""Photos, rendered text and boxes.

In: pictures of scikit-image and scikit-learn, fonts of the system, seeds.  Out: uint8 RGB images,
matches between boxes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .base import Array, Missing, Score, package_file

PHOTOS = {
    "calibration": (("skimage", "data/chelsea.png"), ("skimage", "data/coffee.png"),
                    ("skimage", "data/rocket.jpg"), ("skimage", "data/motorcycle_left.png")),
    "test": (("skimage", "data/astronaut.png"), ("skimage", "data/camera.png"),
             ("sklearn", "datasets/images/china.jpg"), ("sklearn", "datasets/images/flower.jpg")),
}  # fmt: skip
FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
FONTS = {
    "calibration": ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"),
    "test": ("LiberationSans-Regular.ttf", "LiberationSerif-Regular.ttf",
             "LiberationSans-Bold.ttf", "FreeSans.ttf", "FreeSerifBold.ttf"),
}  # fmt: skip
WORDS = {
    "calibration": "river stone 4821 paper Monday green 57 garden letter Total 390 window".split(),
    "test": "Invoice 2031 market bridge 764 silver Number coffee 15.90 summer Office 88".split(),
}


@cache
def photos(part: str) -> tuple[Array, ...]:
    """Return the photos of "calibration" or "test", uint8 (H, W, 3)."""
    from PIL import Image

    files = [package_file(module, path) for module, path in PHOTOS[part]]
    return tuple(np.asarray(Image.open(path).convert("RGB")) for path in files)


def crop(part: str, size: int, random: np.random.Generator) -> Array:
    """Cut a square out of a photo, at any scale, mirrored or not, brighter or darker."""
    found = photos(part)
    photo = found[random.integers(len(found))]
    side = int(random.integers(size // 2, min(photo.shape[:2])))
    top, left = (int(random.integers(0, n - side + 1)) for n in photo.shape[:2])
    cut = photo[top : top + side, left : left + side]
    cut = cut[:, ::-1] if random.random() < 0.5 else cut
    scaled = resized(cut, size, size).astype(np.float32) * random.uniform(0.6, 1.2)
    return scaled.clip(0, 255).astype(np.uint8)


def resized(image: Array, height: int, width: int) -> Array:
    """Resize uint8 (H, W, 3) or (H, W), bilinear."""
    from PIL import Image

    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled)


@cache
def font(name: str, size: int) -> Any:
    """Open a font of the system; Missing if it is not installed."""
    from PIL import ImageFont

    for folder in FOLDERS:
        for path in sorted(folder.rglob(name)):
            return ImageFont.truetype(str(path), size)
    raise Missing(f"the font {name} is not installed")


def write(image: Array, text: str, name: str, size: int, at: tuple[int, int], ink: Any) -> Array:
    """Return the image with a text whose top left corner is at (x, y)."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text(at, text, fill=ink, font=font(name, size))
    return np.asarray(picture)


def line(text: str, part: str, height: int, random: np.random.Generator) -> Array:
    """Return a text line, uint8 (height, W, 3): ink and paper of random grey, noise."""
    fonts = FONTS[part]
    name = fonts[random.integers(len(fonts))]
    size = int(height * random.uniform(0.6, 0.75))
    width = int(font(name, size).getlength(text)) + size
    paper, ink = int(random.integers(190, 256)), int(random.integers(0, 80))
    if random.random() < 0.25:
        paper, ink = ink, paper
    blank = np.full((height, width, 3), paper, np.uint8)
    top = int((height - 1.2 * size) / 2)
    written = write(blank, text, name, size, (size // 2, top), (ink,) * 3)
    noisy = written + random.normal(0, random.uniform(0, 12), written.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def words(part: str, count: int, random: np.random.Generator) -> str:
    """Return some words and numbers."""
    return " ".join(random.choice(WORDS[part], count, replace=False))


def channels_first(image: Array, mean: float, spread: float) -> Array:
    """Return (1, 3, H, W) float32, (image / 255 - mean) / spread."""
    x = (image.astype(np.float32) / 255 - mean) / spread
    return np.ascontiguousarray(x.transpose(2, 0, 1))[None]


# ---------------------------------------------------------------- boxes


def overlaps(a: Array, b: Array) -> Array:
    """Return intersection over union of boxes (x1, y1, x2, y2), (len(a), len(b))."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    both = (high - low).clip(0).prod(-1)
    areas = [(c[:, 2:4] - c[:, :2]).clip(0).prod(-1) for c in (a, b)]
    return np.asarray(both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9))


def best_boxes(boxes: Array, scores: Array, least: float, overlap: float) -> Array:
    """Return boxes that stay after suppression, (N, 6): corners, score, class."""
    best = scores.max(1)
    kept = np.concatenate([boxes, best[:, None], scores.argmax(1)[:, None]], 1)[best > least]
    kept, result = kept[np.argsort(-kept[:, 4], kind="stable")], []
    while len(kept):
        result.append(kept[0])
        kept = kept[1:][overlaps(kept[:1], kept[1:])[0] <= overlap]
    return np.array(result).reshape(-1, 6)


def corners(boxes: Array) -> Array:
    """Return corners of boxes given by centre and size, (..., 4)."""
    half = boxes[..., 2:4] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def matched(found: list[Array], right: list[Array]) -> Score:
    """Return the F-measure of found boxes; a match has IoU >= 0.5 and the same class."""
    hits = 0
    for a, b in zip(found, right, strict=True):
        fit = overlaps(a, b)
        if a.shape[1] > 5:
            fit = fit * (a[:, None, 5] == b[None, :, 5])
        while fit.size and fit.max() >= 0.5:
            i, j = np.unravel_index(fit.argmax(), fit.shape)
            hits += 1
            fit[i], fit[:, j] = 0, 0
    total = sum(map(len, found)) + sum(map(len, right))
    return Score(200 * hits / max(total, 1), sum(map(len, right)))
