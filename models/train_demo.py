# SPDX-License-Identifier: Apache-2.0
"""Trains the networks of ``neuralmatrix demo transformer`` and ``demo gnn``.

In: scikit-learn's load_digits, split as in digits.py; networkx's karate_club_graph.
Out: digits_vit.onnx, karate_gcn.onnx and karate.npz under host/neuralmatrix/demo/data.
A few minutes on two cores.  Needs torch, scikit-learn, networkx, onnx.

The graph network has the club's 34 members as unit vectors and its 78 friendships as constant
edges; it is trained on the two leaders' sides alone and predicts the side of every member.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import digits
import networkx
import numpy as np
import onnx
import torch
import training
import zoo_graphs
import zoo_transformers
from torch_graphs import graph_net
from torch_transformers import vit_digits

SEED = 7
EPOCHS = 120
LEADERS = (0, 33)
SIDES = ("Mr. Hi", "Officer")
SIZES = (34, 16, 2)  # features, hidden, classes
STEPS = 200


def state(net: torch.nn.Module) -> dict[str, Any]:
    """Return the trained values by name."""
    return {name: value.detach().numpy() for name, value in net.state_dict().items()}


def train_digits() -> onnx.ModelProto:
    """Train the ViT for 8x8 digits."""
    torch.manual_seed(SEED)
    data = digits.split()
    net = vit_digits()
    x, y = digits.as_input(data["train_x"]), torch.from_numpy(data["train_y"]).long()
    training.fit(net, (x,), y, epochs=EPOCHS, peak=3e-3, batch=64, decay=0.05,
                 augment=lambda images: (digits.shifted(images),))  # fmt: skip
    print(f"digits: test accuracy {digits.accuracy(net, data):.4f}")
    return zoo_transformers.vit_digits(state(net))


def karate_club() -> tuple[Any, Any]:
    """Return edges (2, 156), each friendship in both directions, and the sides (34,)."""
    club = networkx.karate_club_graph()
    pairs = np.array(club.edges).T
    sides = np.array([SIDES.index(club.nodes[i]["club"]) for i in range(SIZES[0])])
    return np.concatenate([pairs, pairs[::-1]], 1), sides


def train_karate() -> tuple[onnx.ModelProto, Any]:
    """Train the GCN in its edge-by-edge form; return it and the sides."""
    torch.manual_seed(SEED)
    edges, sides = karate_club()
    net = graph_net("gcn", SIZES, torch.from_numpy(edges), SIZES[0])
    features, wanted = torch.eye(SIZES[0]), torch.from_numpy(sides)
    optimizer = torch.optim.Adam(net.parameters(), 0.01, weight_decay=5e-3)
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(net(features)[[*LEADERS]], wanted[[*LEADERS]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (net(features).argmax(1) == wanted).float().mean()
    print(f"karate club: {right:.4f} of the members on their side")
    return zoo_graphs.graph_net("gcn", SIZES, edges, SIZES[0], weights=state(net)), sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=digits.DEMO_DATA, help="folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(train_digits(), str(out / "digits_vit.onnx"))
    network, sides = train_karate()
    onnx.save(network, str(out / "karate_gcn.onnx"))
    np.savez_compressed(out / "karate.npz", sides=sides.astype(np.uint8), leaders=LEADERS)


if __name__ == "__main__":
    main()
