# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the training scripts: a seeded optimiser loop, weight files, onnxruntime.

In: a module, its training inputs and labels.  Out: ``weights/*.npz`` (the ``state_dict`` in
float16).  Needs torch to train; reading weights and evaluating need numpy, onnx and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

WEIGHTS = Path(__file__).resolve().parent / "weights"


def fit(
    net: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    labels: torch.Tensor,
    *,
    epochs: int,
    peak: float,
    batch: int,
    decay: float,
    augment: Callable[..., tuple[torch.Tensor, ...]] = lambda *x: x,
    smoothing: float = 0.0,
) -> None:
    """Train with AdamW and a one-cycle learning rate; ``augment`` changes a batch of inputs."""
    import torch

    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=decay, fused=True)
    steps = epochs * -(-len(labels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps)
    net.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(labels)).split(batch):
            answers = net(*augment(*(x[chosen] for x in inputs)))
            loss = torch.nn.functional.cross_entropy(
                answers, labels[chosen], label_smoothing=smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch + 1}: loss {total / len(labels):.4f}", flush=True)
    net.eval()


def save_weights(net: torch.nn.Module, name: str, **more: Any) -> Path:
    """Write weights/name.npz: the parameters in float16, and ``more`` as given."""
    half = {key: value.detach().numpy().astype(np.float16) for key, value in
            net.state_dict().items()}  # fmt: skip
    path = WEIGHTS / f"{name}.npz"
    np.savez_compressed(path, **half, **more)
    return path


def load_weights(name: str) -> dict[str, Any]:
    """Load the arrays of weights/name.npz, float16 ones as float32."""
    with np.load(WEIGHTS / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    return {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in arrays.items()}


def accuracy(model: ModelProto, feeds: dict[str, Any], labels: Any) -> float:
    """Return the share of samples that onnxruntime classifies correctly, one at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    right = 0
    for i, label in enumerate(labels):
        one = {name: array[i : i + 1] for name, array in feeds.items()}
        right += int(session.run(None, one)[0].argmax() == label)
    return right / len(labels)
