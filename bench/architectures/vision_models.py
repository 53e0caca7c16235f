# SPDX-License-Identifier: Apache-2.0
"""Networks for images out of timm and torchvision, in their smallest published sizes.

Out: ``ARCHITECTURES``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .base import Architecture, Values

# timm's name: side of the square image.
TIMM = {
    "resnet18": 64, "resnet26d": 64, "seresnet18": 64, "resnext26ts": 64, "skresnet18": 64,
    "resnetblur18": 64, "ecaresnet26t": 64, "res2net50_14w_8s": 64, "regnetx_002": 64,
    "regnety_002": 64, "mobilenetv1_100": 64, "mobilenetv2_050": 64, "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_050": 64, "tf_efficientnet_b0": 64, "efficientnet_lite0": 64,
    "efficientnetv2_rw_t": 64, "ghostnet_050": 64, "mixnet_s": 64, "mnasnet_small": 64,
    "lcnet_050": 64, "tinynet_e": 64, "fbnetc_100": 64, "rexnet_100": 64, "hardcorenas_a": 64,
    "densenet121": 64, "vgg11": 64, "dla46_c": 64, "selecsls42": 64, "hrnet_w18_small": 64,
    "dpn48b": 64, "cspdarknet53": 64, "edgenext_xx_small": 64, "mobilevit_xxs": 64,
    "mobilevitv2_050": 64, "mobileone_s0": 64, "repvgg_a0": 64, "repghostnet_050": 64,
    "convnext_atto": 64, "convnextv2_atto": 64, "vit_tiny_patch16_224": 96,
    "deit_tiny_patch16_224": 96, "swin_tiny_patch4_window7_224": 224, "pit_ti_224": 224,
    "poolformer_s12": 64, "xcit_nano_12_p16_224": 96, "cait_xxs24_224": 96, "coat_tiny": 224,
    "levit_128s": 224, "mixer_s32_224": 224, "gmlp_ti16_224": 224, "resmlp_12_224": 224,
    "efficientvit_b0": 64, "fastvit_t8": 64, "tiny_vit_5m_224": 224, "visformer_tiny": 224,
    "crossvit_9_240": 240, "twins_svt_small": 64, "pvt_v2_b0": 64, "starnet_s1": 64,
    "focalnet_tiny_srf": 64, "eva02_tiny_patch14_224": 112, "davit_tiny": 64,
    "inception_next_atto": 64, "sequencer2d_s": 224, "nextvit_small": 64, "ghostnetv2_100": 64,
    "shvit_s1": 64, "repvit_m0_9": 64, "hgnetv2_b0": 64, "caformer_s18": 64,
}  # fmt: skip

# torchvision's name: shape of one input.
TORCHVISION = {
    "alexnet": (3, 96, 96), "squeezenet1_1": (3, 64, 64), "shufflenet_v2_x0_5": (3, 64, 64),
    "googlenet": (3, 64, 64), "mnasnet0_5": (3, 64, 64), "mobilenet_v3_large": (3, 64, 64),
    "efficientnet_v2_s": (3, 64, 64), "regnet_y_400mf": (3, 64, 64), "swin_v2_t": (3, 64, 64),
    "lraspp_mobilenet_v3_large": (3, 64, 64), "deeplabv3_mobilenet_v3_large": (3, 64, 64),
    "fcn_resnet50": (3, 64, 64), "r3d_18": (3, 4, 32, 32), "mc3_18": (3, 4, 32, 32),
}  # fmt: skip


def _timm(name: str, side: int) -> torch.nn.Module:
    import timm

    sized: dict[str, Any] = {"img_size": side}
    try:
        return timm.create_model(name, num_classes=20, **sized)
    except TypeError:  # convolutional networks take any size
        return timm.create_model(name, num_classes=20)


def _torchvision(name: str) -> torch.nn.Module:
    import torchvision

    extra = {"weights_backbone": None} if "_mobilenet_v3" in name or name[:3] == "fcn" else {}
    if name == "googlenet":
        extra = {"init_weights": False, "aux_logits": False}
    return torchvision.models.get_model(name, weights=None, num_classes=20, **extra)


ARCHITECTURES = (
    *(Architecture(name, "timm", partial(_timm, name, side), {"x": Values((1, 3, side, side))})
      for name, side in TIMM.items()),
    *(Architecture(f"torchvision_{name}", "torchvision", partial(_torchvision, name),
                   {"x": Values((1, *shape))})
      for name, shape in TORCHVISION.items()),
)  # fmt: skip
