# SPDX-License-Identifier: Apache-2.0
"""Small networks with random weights, out of packages that people train with.

In: timm, torchvision, transformers, torch_geometric; a missing one leaves its networks out.
Out: ``ARCHITECTURES``, by name.
"""

from __future__ import annotations

from ..torchvision_operators import declare_operators
from . import geometric_models, language_models, plain_models, vision_models
from .base import Architecture

_declared = declare_operators()  # before timm and transformers import torchvision
ARCHITECTURES: dict[str, Architecture] = {
    one.name: one
    for module in (plain_models, vision_models, language_models, geometric_models)
    for one in module.ARCHITECTURES
}
