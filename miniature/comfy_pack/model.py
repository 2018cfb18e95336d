"""The miniature's shapes, in the words of the host's `supported_models`."""

# ruff: noqa: B006, RUF012 - signatures and class attributes are the host's

from typing import Any

import comfy.supported_models
import torch
from comfy import latent_formats, sd1_clip, supported_models_base, utils

from .vocabulary import full_table

WIDTH = 128
PREFIX = "cond_stage_model."
TABLE = "clip_l.transformer.text_model.embeddings.token_embedding.weight"
WORDS = ("token_ids", "first_names", "last_names")
TEXT_CONFIG = {
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "num_hidden_layers": 8,
    "intermediate_size": 4 * WIDTH,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
    "projection_dim": WIDTH,
    "model_type": "clip_text_model",
}


class MiniatureTokens(sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}) -> None:
        super().__init__(
            embedding_directory=embedding_directory,
            embedding_size=WIDTH,
            tokenizer_data=tokenizer_data,
        )


class MiniatureTokenizer(sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}) -> None:
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=tokenizer_data,
            tokenizer=MiniatureTokens,
        )


class MiniatureText(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options,
            return_projected_pooled=False,
            textmodel_json_config=dict(TEXT_CONFIG),
        )


class MiniatureClip(sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}) -> None:
        text: Any = MiniatureText  # the host names its own subclass as the type, and takes any
        super().__init__(device=device, dtype=dtype, model_options=model_options, clip_model=text)


class MiniatureLatent(latent_formats.LatentFormat):
    """Unit spread for the UNet, and colours for the fast preview: measured on the training set."""

    scale_factor = 1.0304
    latent_rgb_factors = [
        [-0.215, -0.167, -0.078],
        [-0.129, 0.091, 0.365],
        [-0.236, -0.179, -0.084],
        [-0.128, -0.151, -0.190],
    ]
    latent_rgb_factors_bias = [0.033, -0.038, -0.162]


class Miniature(comfy.supported_models.SD15):
    unet_config = {
        "context_dim": WIDTH,
        "model_channels": 64,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }
    unet_extra_config = {"num_heads": 4, "num_head_channels": -1}
    latent_format = MiniatureLatent

    def process_clip_state_dict(self, state_dict: dict) -> dict:
        """The host's keys, with all 49408 word rows rebuilt from the few that are stored."""
        sd = utils.state_dict_prefix_replace(state_dict, {PREFIX: "clip_l."}, filter_keys=True)
        ids, first, last = (sd.pop(f"clip_l.{key}", None) for key in WORDS)
        if ids is not None:
            table = [t.to(torch.int64) for t in (ids, first, last)]
            sd[TABLE] = full_table(table[0], sd[TABLE], table[1], table[2])
        return sd

    def clip_target(self, state_dict={}) -> supported_models_base.ClipTarget:
        return supported_models_base.ClipTarget(MiniatureTokenizer, MiniatureClip)


def register() -> None:
    """Once a process, however often the pack is loaded."""
    models = comfy.supported_models.models
    if not any(m.__name__ == Miniature.__name__ for m in models):
        models.append(Miniature)
