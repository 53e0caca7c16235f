# SPDX-License-Identifier: Apache-2.0
"""Text in pictures: where it is, which way up, what it says.

In: texts rendered with fonts of the system.  Out: ``NETWORKS``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import base, images
from .base import Array, Feed, Loaded, Network, Run, Score

RAPID, DDDD = "rapidocr_onnxruntime", "ddddocr"
SEEDS = {"calibration": range(0, 48), "test": range(1000, 1240)}

# ---------------------------------------------------------------- recognition

LINE = (48, 320)


def load_recognition() -> Loaded:
    """Return PP-OCRv4's recognition: convolutions and attention, 6,625 characters."""
    return Loaded(base.onnx_file(RAPID, "models/ch_PP-OCRv4_rec_infer.onnx"), {"x": (1, 3, *LINE)})


@cache
def lines(part: str, shape: tuple[int, int]) -> tuple[Array, tuple[str, ...]]:
    """Return text lines (N, 3, H, W) in -1..1, padded with 0, and what they say."""
    x, texts = [], []
    for seed in SEEDS[part]:
        random = np.random.default_rng(seed)
        text = images.words(part, int(random.integers(1, 3)), random)
        image = images.line(text, part, shape[0], random)
        width = min(image.shape[1], shape[1])
        scaled = images.resized(image, shape[0], width)
        padded = np.zeros((1, 3, *shape), np.float32)
        padded[..., :width] = images.channels_first(scaled, 0.5, 0.5)
        x.append(padded)
        texts.append(text)
    return np.concatenate(x), tuple(texts)


def spelled(classes: Array, alphabet: list[str]) -> str:
    """Return the text of a row of classes: repeats and class 0 left out."""
    kept = [c for c, before in zip(classes, [0, *classes[:-1]], strict=True) if c and c != before]
    return "".join(alphabet[c] for c in kept)


def recognition_score(run: Run, reference: Run) -> Score:
    """Return how many lines are read without a fault."""
    x, texts = lines("test", LINE)
    model = load_recognition().model
    (characters,) = (p.value for p in model.metadata_props if p.key == "character")
    alphabet = ["", *characters.splitlines(), " "]
    (found,) = run({"x": x}).values()
    classes = found.reshape(len(x), -1, found.shape[-1]).argmax(-1)
    said = [spelled(list(row), alphabet).strip() for row in classes]
    return base.share([a == b for a, b in zip(said, texts, strict=True)])


# ---------------------------------------------------------------- upside down or not

TURN = (48, 192)


def load_turned() -> Loaded:
    model = base.onnx_file(RAPID, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx")
    return Loaded(model, {"x": (1, 3, *TURN)})


def turned(part: str) -> tuple[Array, Array]:
    """Return lines, every other one upside down, and which are."""
    x, texts = lines(part, TURN)
    down = np.arange(len(texts)) % 2 == 1
    return np.where(down[:, None, None, None], x[:, :, ::-1, ::-1], x), down


def turned_score(run: Run, reference: Run) -> Score:
    x, down = turned("test")
    return base.share(base.only(run({"x": x}), len(x)).argmax(1) == down)


# ---------------------------------------------------------------- detection

PAGE = 256


def load_detection() -> Loaded:
    """Return PP-OCRv4's text detection: a map of probabilities."""
    model = base.onnx_file(RAPID, "models/ch_PP-OCRv4_det_infer.onnx")
    return Loaded(model, {"x": (1, 3, PAGE, PAGE)})


def pages(part: str, count: int) -> Array:
    """Return pictures with two to five lines of text, on photos and on paper."""
    x = []
    for seed in SEEDS[part][:count]:
        random = np.random.default_rng(seed)
        page = images.crop(part, PAGE, random)
        if seed % 2:
            page = np.full_like(page, random.integers(180, 256))
        ink = (255,) * 3 if page.mean() < 120 else (10,) * 3
        fonts = images.FONTS[part]
        for top in range(10, PAGE - 30, int(random.integers(45, 100))):
            name, size = fonts[random.integers(len(fonts))], int(random.integers(14, 30))
            text = images.words(part, int(random.integers(1, 3)), random)
            page = images.write(page, text, name, size, (int(random.integers(5, 60)), top), ink)
        x.append(images.channels_first(page, 0.5, 0.5))
    return np.concatenate(x)


def regions(maps: Array) -> list[Array]:
    """Return boxes around connected pixels above 0.3 whose mean is above 0.5."""
    from scipy import ndimage

    found = []
    for probability in maps:
        labels, _ = ndimage.label(ndimage.binary_dilation(probability > 0.3))
        boxes = []
        for k, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
            inside = labels[rows, columns] == k
            if inside.sum() >= 20 and probability[rows, columns][inside].mean() > 0.5:
                boxes.append([columns.start, rows.start, columns.stop, rows.stop])
        found.append(np.array(boxes, np.float64).reshape(-1, 4))
    return found


def detection_score(run: Run, reference: Run) -> Score:
    x = pages("test", 48)
    found, right = (regions(next(iter(each({"x": x}).values())).reshape(-1, PAGE, PAGE))
                    for each in (run, reference))  # fmt: skip
    return images.matched(found, right)


# ---------------------------------------------------------------- captchas

CAPTCHA = (64, 160)
SIGNS = {"calibration": "acegkmprtvxz13579", "test": "bdfhnqsuwy24680"}


def load_captcha() -> Loaded:
    """Return ddddocr's recognition: convolutions, an LSTM in both directions, 8,210 characters."""
    return Loaded(base.onnx_file(DDDD, "common.onnx"), {"input1": (1, 1, *CAPTCHA)})


def captchas(part: str, count: int) -> tuple[Array, list[str]]:
    """Return pictures of four characters with lines across, (N, 1, 64, 160), and the texts."""
    from PIL import Image, ImageDraw

    x, texts = [], []
    for seed in SEEDS[part][:count]:
        random = np.random.default_rng(seed)
        text = "".join(random.choice(list(SIGNS[part]), 4))
        picture = np.full((*CAPTCHA, 3), random.integers(200, 256), np.uint8)
        for k, sign in enumerate(text):
            name = images.FONTS[part][random.integers(len(images.FONTS[part]))]
            at = (8 + 38 * k + int(random.integers(-4, 5)), int(random.integers(2, 14)))
            ink = tuple(int(v) for v in random.integers(0, 120, 3))
            picture = images.write(picture, sign, name, int(random.integers(36, 46)), at, ink)
        drawn = Image.fromarray(picture)
        ends = [(int(random.integers(0, 160)), int(random.integers(0, 64))) for _ in range(4)]
        ImageDraw.Draw(drawn).line(ends, fill=(90, 90, 90), width=1)
        x.append(np.asarray(drawn.convert("L"), np.float32)[None, None] / 255)
        texts.append(text)
    return np.concatenate(x), texts


def captcha_score(run: Run, reference: Run) -> Score:
    """Return how many texts are read without a fault, whether capital or not."""
    x, texts = captchas("test", 64)
    alphabet = base.submodule(DDDD, "charsets").CHARSET_BETA
    # Its output is (steps, 1, characters): the batch does not come first, so one at a time.
    found = [next(iter(run({"input1": each[None]}).values())) for each in x]
    said = [spelled(list(each[:, 0].argmax(-1)), alphabet).lower() for each in found]
    return base.share([a == b for a, b in zip(said, texts, strict=True)])


# ---------------------------------------------------------------- characters on photos

FIELD = 416


def load_characters() -> Loaded:
    """Return ddddocr's detector: YOLOX, 3,549 boxes beside their scores."""
    return Loaded(base.onnx_file(DDDD, "common_det.onnx"))


def characters(part: str, count: int) -> Array:
    """Return photos with three to six large characters, (N, 3, 416, 416), 0..255."""
    x = []
    for seed in SEEDS[part][:count]:
        random = np.random.default_rng(seed)
        photo = images.crop(part, FIELD, random)
        for place in random.choice(9, int(random.integers(3, 7)), replace=False):
            sign = str(random.choice(list(SIGNS[part]))).upper()
            name = images.FONTS[part][random.integers(len(images.FONTS[part]))]
            shift = [int(v) for v in random.integers(0, 40, 2)]
            at = (20 + 130 * (place % 3) + shift[0], 10 + 130 * (place // 3) + shift[1])
            ink = tuple(int(v) for v in random.integers(0, 256, 3))
            photo = images.write(photo, sign, name, int(random.integers(50, 90)), at, ink)
        x.append(photo.transpose(2, 0, 1)[None].astype(np.float32))
    return np.concatenate(x)


def decoded(outputs: Array) -> list[Array]:
    """Return boxes after suppression: places and sizes are in units of the cells."""
    grids, strides = [], []
    for stride in (8, 16, 32):
        side = FIELD // stride
        rows, columns = np.mgrid[:side, :side]
        grids.append(np.stack([columns, rows], -1).reshape(-1, 2))
        strides.append(np.full((side * side, 1), stride))
    grid, stride = np.concatenate(grids), np.concatenate(strides)
    found = []
    for one in outputs.reshape(-1, len(grid), 6).astype(np.float64):
        place = (one[:, :2] + grid) * stride
        boxes = np.concatenate([place, np.exp(one[:, 2:4]) * stride], 1)
        found.append(images.best_boxes(images.corners(boxes), one[:, 4:5] * one[:, 5:], 0.1, 0.45))
    return found


def characters_score(run: Run, reference: Run) -> Score:
    x = characters("test", 60)
    found, right = (decoded(next(iter(each({"images": x}).values()))) for each in (run, reference))
    return images.matched(found, right)


def network(name: str, package: str, file: str, judged: str, *parts: Any) -> Network:
    """Describe a network of rapidocr-onnxruntime or ddddocr."""
    return Network(name, package, "MIT" if package == DDDD else "Apache-2.0", file, judged, *parts)


RAPIDS = "rapidocr-onnxruntime"


def feed(name: str, array: Array) -> list[Feed]:
    return [{name: array}]


NETWORKS = (
    network("ocr_recognition", RAPIDS, "models/ch_PP-OCRv4_rec_infer.onnx", "text lines read",
            load_recognition, lambda: feed("x", lines("calibration", LINE)[0]),
            recognition_score),
    network("ocr_turned", RAPIDS, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "lines upside down", load_turned, lambda: feed("x", turned("calibration")[0]),
            turned_score),
    network("ocr_detection", RAPIDS, "models/ch_PP-OCRv4_det_infer.onnx",
            "F-measure against float boxes", load_detection,
            lambda: feed("x", pages("calibration", 32)), detection_score),
    network("captcha", DDDD, "common.onnx", "texts of four characters read", load_captcha,
            lambda: feed("input1", captchas("calibration", 48)[0]), captcha_score),
    network("captcha_boxes", DDDD, "common_det.onnx", "F-measure against float boxes",
            load_characters, lambda: feed("images", characters("calibration", 24)),
            characters_score),
)  # fmt: skip
