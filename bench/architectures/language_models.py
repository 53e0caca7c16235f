# SPDX-License-Identifier: Apache-2.0
"""Networks of transformers with small configurations: text, speech, images, series.

Out: ``ARCHITECTURES``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .base import Architecture, Values

TOKENS, WORDS, SIDE = 16, 300, 32
COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": WORDS,
    "max_position_embeddings": 64,
    "num_labels": 5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
IDS = {"input_ids": Values((1, TOKENS), ids=WORDS)}
MASKED = {**IDS, "attention_mask": Values((1, TOKENS), ones=True)}
IMAGE = {"pixel_values": Values((1, 3, SIDE, SIDE))}
SOUND = {"input_values": Values((1, 3200))}
GROUPED = {"num_key_value_heads": 2, "head_dim": 16}
VISION = {"image_size": SIDE, "patch_size": 8}
STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 128]}
SPEECH = {
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 3,
}

# Name: class of the model, its inputs, what differs from COMMON.
MODELS: dict[str, tuple[str, dict[str, Values], dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", MASKED, {}),
    "bert_tokens": ("BertForTokenClassification", IDS, {}),
    "bert_masked_words": ("BertForMaskedLM", MASKED, {}),
    "roberta": ("RobertaForSequenceClassification", MASKED, {}),
    "xlm_roberta": ("XLMRobertaModel", IDS, {}),
    "camembert": ("CamembertForTokenClassification", MASKED, {}),
    "distilbert": ("DistilBertForSequenceClassification", MASKED, {}),
    "albert": ("AlbertForSequenceClassification", MASKED, {"embedding_size": 32}),
    "electra": ("ElectraForSequenceClassification", MASKED, {"embedding_size": 32}),
    "mobilebert": ("MobileBertModel", MASKED, {"embedding_size": 32, "intra_bottleneck_size": 32}),
    "mpnet": ("MPNetModel", MASKED, {}),
    "squeezebert": ("SqueezeBertModel", MASKED, {"embedding_size": 64}),
    "convbert": ("ConvBertModel", MASKED, {"embedding_size": 32}),
    "deberta": ("DebertaModel", MASKED, {"relative_attention": True, "pos_att_type": "c2p|p2c"}),
    "deberta_v2": (
        "DebertaV2Model",
        MASKED,
        {"relative_attention": True, "pos_att_type": "c2p|p2c"},
    ),
    "ernie": ("ErnieModel", MASKED, {}),
    "fnet": ("FNetModel", IDS, {}),
    "nystromformer": (
        "NystromformerModel",
        MASKED,
        {"num_landmarks": 4, "segment_means_seq_len": TOKENS},
    ),
    "roformer": ("RoFormerModel", MASKED, {"embedding_size": 64}),
    "modernbert": ("ModernBertModel", MASKED, {"cls_token_id": 1, "sep_token_id": 2}),
    "layoutlm": ("LayoutLMModel", IDS, {}),
    "gpt2": ("GPT2LMHeadModel", IDS, {"use_cache": False}),
    "gpt_neo": (
        "GPTNeoModel",
        IDS,
        {"use_cache": False, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    ),
    "gpt_neox": ("GPTNeoXModel", IDS, {"use_cache": False}),
    "gptj": ("GPTJModel", IDS, {"use_cache": False, "rotary_dim": 8}),
    "opt": ("OPTModel", MASKED, {"use_cache": False, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "bloom": ("BloomModel", IDS, {"use_cache": False}),
    "llama": ("LlamaForCausalLM", IDS, {"use_cache": False, "num_key_value_heads": 2}),
    "mistral": ("MistralModel", IDS, {"use_cache": False, **GROUPED, "sliding_window": 8}),
    "qwen2": ("Qwen2Model", IDS, {"use_cache": False, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3Model", IDS, {"use_cache": False, **GROUPED}),
    "gemma": ("GemmaModel", IDS, {"use_cache": False, **GROUPED}),
    "gemma2": ("Gemma2Model", IDS, {"use_cache": False, **GROUPED, "query_pre_attn_scalar": 16}),
    "phi": ("PhiModel", IDS, {"use_cache": False}),
    "stablelm": ("StableLmModel", IDS, {"use_cache": False, "num_key_value_heads": 2}),
    "olmo": ("OlmoModel", IDS, {"use_cache": False, "num_key_value_heads": 2}),
    "falcon": ("FalconModel", IDS, {"use_cache": False}),
    "mamba": ("MambaModel", IDS, {"use_cache": False, "state_size": 8, "time_step_rank": 8}),
    "t5_encoder": (
        "T5EncoderModel",
        MASKED,
        {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    ),
    "bart_encoder": (
        "BartModel.encoder",
        MASKED,
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_ffn_dim": 128,
            "encoder_attention_heads": 4,
        },
    ),
    "marian_encoder": (
        "MarianModel.encoder",
        MASKED,
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_ffn_dim": 128,
            "encoder_attention_heads": 4,
        },
    ),
    "clip_text": ("CLIPTextModel", IDS, {}),
    "vit": ("ViTForImageClassification", IMAGE, VISION),
    "deit": ("DeiTModel", IMAGE, VISION),
    "beit": ("BeitModel", IMAGE, {**VISION, "use_relative_position_bias": True}),
    "dinov2": ("Dinov2Model", IMAGE, VISION),
    "clip_vision": ("CLIPVisionModel", IMAGE, VISION),
    "siglip_vision": ("SiglipVisionModel", IMAGE, VISION),
    "yolos": (
        "YolosForObjectDetection",
        IMAGE,
        {"image_size": [SIDE, SIDE], "patch_size": 8, "num_detection_tokens": 10},
    ),
    "swin": (
        "SwinModel",
        IMAGE,
        {
            "image_size": SIDE,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "window_size": 4,
        },
    ),
    "segformer": (
        "SegformerForSemanticSegmentation",
        IMAGE,
        {**STAGES, "num_attention_heads": [1, 2, 4, 8], "decoder_hidden_size": 32},
    ),
    "mobilevit_hf": (
        "MobileViTModel",
        IMAGE,
        {
            "image_size": SIDE,
            "hidden_sizes": [32, 48, 64],
            "num_attention_heads": 4,
            "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 128],
        },
    ),
    "convnext_hf": ("ConvNextModel", IMAGE, STAGES),
    "resnet_hf": ("ResNetModel", IMAGE, {**STAGES, "embedding_size": 16}),
    "regnet_hf": ("RegNetModel", IMAGE, {**STAGES, "embedding_size": 16, "groups_width": 8}),
    "mobilenet_v2_hf": ("MobileNetV2Model", IMAGE, {"depth_multiplier": 0.35}),
    "levit_hf": (
        "LevitModel",
        {"pixel_values": Values((1, 3, 64, 64))},
        {
            "image_size": 64,
            "hidden_sizes": [32, 48, 64],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
    ),
    "wav2vec2": ("Wav2Vec2ForCTC", SOUND, SPEECH),
    "hubert": ("HubertModel", SOUND, SPEECH),
    "whisper_encoder": (
        "WhisperModel.encoder",
        {"input_features": Values((1, 80, 64))},
        {
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "max_source_positions": 32,
        },
    ),
    "spectrogram_transformer": (
        "ASTForAudioClassification",
        {"input_values": Values((1, 64, 32))},
        {
            "max_length": 64,
            "num_mel_bins": 32,
            "patch_size": 8,
            "frequency_stride": 8,
            "time_stride": 8,
        },
    ),
    "patchtst": (
        "PatchTSTForPrediction",
        {"past_values": Values((1, 64, 3))},
        {
            "num_input_channels": 3,
            "context_length": 64,
            "prediction_length": 8,
            "patch_length": 8,
            "patch_stride": 8,
            "d_model": 64,
            "ffn_dim": 128,
        },
    ),
}


class ByName(torch.nn.Module):
    """Passes positional arguments by name, and no other outputs than the first."""

    def __init__(self, inner: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.inner, self.names = inner, names

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        """Return the first output: logits, or the last hidden state."""
        found = self.inner(**dict(zip(self.names, args, strict=True)), return_dict=True)
        first: torch.Tensor = next(v for v in found.values() if isinstance(v, torch.Tensor))
        return first


def _build(text: str, names: tuple[str, ...], settings: dict[str, Any]) -> torch.nn.Module:
    import transformers

    name, _, part = text.partition(".")
    kind = getattr(transformers, name)
    own = set(settings)
    taken = {k: v for k, v in {**COMMON, **settings}.items() if k in own or _takes(kind, k, own)}
    config = kind.config_class(**taken)
    config._attn_implementation = "eager" if name.startswith(("Mamba", "FNet")) else "sdpa"
    try:
        model = kind(config)
    except ValueError:  # no fused attention for this one
        config._attn_implementation = "eager"
        model = kind(config)
    return ByName(getattr(model, part) if part else model, names)


def _takes(kind: Any, key: str, own: set[str]) -> bool:
    """Return whether a configuration knows ``key``, under this or another name."""
    config = kind.config_class
    other = getattr(config, "attribute_map", {}).get(key, key)
    return other not in own and (hasattr(config(), other) or key == "num_labels")


ARCHITECTURES = tuple(
    Architecture(
        f"hf_{name}", "transformers", partial(_build, kind, tuple(inputs), settings), inputs
    )
    for name, (kind, inputs, settings) in MODELS.items()
)
