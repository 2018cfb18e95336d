"""Tiny families in the host's own classes, shaped like SD1.x, SD2.x and SDXL."""

from typing import Any

import torch
from comfy import model_base, sd1_clip, sdxl_clip, supported_models, supported_models_base
from comfy import utils as comfy_utils
from torch import Tensor

KINDS = ("sd1", "sd2", "sd2v", "sdxl", "sdxlv")
V_PREDICTION_KEY = "v_pred"  # a checkpoint with this key predicts v, one without predicts epsilon
ZERO_SNR_KEY = "ztsnr"  # the last timestep of a checkpoint with this key is noise alone

TINY_SD1_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
TINY_SD2_TEXT = TINY_SD1_TEXT | {
    "hidden_size": 96,
    "intermediate_size": 384,
    "num_attention_heads": 3,
    "hidden_act": "gelu",
}
TINY_BIGG_TEXT = TINY_SD2_TEXT | {"num_hidden_layers": 5}
TINY_SDXL_WIDTH = TINY_SD1_TEXT["hidden_size"] + TINY_BIGG_TEXT["hidden_size"]
SIZE_WIDTH = 6 * 256  # of the six numbers that an SDXL UNet is told of a picture's size


class TinySD1TokenizerL(sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            embedding_directory=embedding_directory,
            embedding_size=TINY_SD1_TEXT["hidden_size"],
            embedding_key="clip_l",
            tokenizer_data=tokenizer_data or {},
        )


class TinySD1Tokenizer(sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=TinySD1TokenizerL)


class TinySD1ClipL(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=dict(TINY_SD1_TEXT),
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class TinySD1Clip(sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(device, dtype, model_options or {}, clip_model=TinySD1ClipL)


class TinySD2TokenizerH(sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            pad_with_end=False,
            embedding_directory=embedding_directory,
            embedding_size=TINY_SD2_TEXT["hidden_size"],
            embedding_key="clip_h",
            tokenizer_data=tokenizer_data or {},
        )


class TinySD2Tokenizer(sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            embedding_directory, tokenizer_data or {}, clip_name="h", tokenizer=TinySD2TokenizerH
        )


class TinySD2ClipH(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            layer="hidden",
            layer_idx=-2,
            textmodel_json_config=dict(TINY_SD2_TEXT),
            special_tokens={"start": 49406, "end": 49407, "pad": 0},
            return_projected_pooled=True,
            model_options=model_options or {},
        )


class TinySD2Clip(sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(device, dtype, model_options or {}, clip_name="h", clip_model=TinySD2ClipH)


class TinySD1(supported_models.SD15):
    """SD1.x in small: clip_l with the last layer, convolutions around the attention, 4 heads."""

    unet_config = supported_models.SD15.unet_config | {"model_channels": 32, "context_dim": 64}
    unet_extra_config = supported_models.SD15.unet_extra_config | {"num_heads": 4}

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> Any:
        return supported_models_base.ClipTarget(TinySD1Tokenizer, TinySD1Clip)


class TinySD2(supported_models.SD20):
    """SD2.x in small: clip_h with the last but one layer, linear layers around the attention."""

    unet_config = supported_models.SD20.unet_config | {"model_channels": 32, "context_dim": 96}
    unet_extra_config = supported_models.SD20.unet_extra_config | {"num_head_channels": 16}

    def model_type(self, state_dict: dict[str, Tensor], prefix: str = "") -> Any:
        types = model_base.ModelType
        return types.V_PREDICTION if V_PREDICTION_KEY in state_dict else types.EPS

    def process_clip_state_dict(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        return comfy_utils.state_dict_prefix_replace(
            state_dict, {"cond_stage_model.": "clip_h."}, filter_keys=True
        )

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> Any:
        return supported_models_base.ClipTarget(TinySD2Tokenizer, TinySD2Clip)


class TinySDXLTokenizer(sdxl_clip.SDXLTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory, tokenizer_data or {})
        self.clip_l.embedding_size = TINY_SD1_TEXT["hidden_size"]
        self.clip_g.embedding_size = TINY_BIGG_TEXT["hidden_size"]


class TinySDXLClip(sdxl_clip.SDXLClipModel):
    """As the host's, which gives its towers no way to other sizes."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        torch.nn.Module.__init__(self)
        towers: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "layer": "hidden",
            "layer_idx": -2,
            "layer_norm_hidden_state": False,
            "model_options": model_options or {},
        }
        self.clip_l = sd1_clip.SDClipModel(textmodel_json_config=dict(TINY_SD1_TEXT), **towers)
        self.clip_g = sd1_clip.SDClipModel(
            textmodel_json_config=dict(TINY_BIGG_TEXT),
            special_tokens={"start": 49406, "end": 49407, "pad": 0},
            return_projected_pooled=True,
            **towers,
        )
        self.dtypes = {dtype}


class TinySDXL(supported_models.SDXL):
    """SDXL in small: two encoders with the last but one layer and no final norm, a UNet of depths
    1 and 2 that reads what clip_g pools and the picture's size."""

    unet_config = supported_models.SDXL.unet_config | {
        "model_channels": 32,
        "context_dim": TINY_SDXL_WIDTH,
        "adm_in_channels": TINY_BIGG_TEXT["hidden_size"] + SIZE_WIDTH,
        "transformer_depth": [1, 2],
    }
    unet_extra_config = supported_models.SDXL.unet_extra_config | {"num_head_channels": 16}

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> Any:
        return supported_models_base.ClipTarget(TinySDXLTokenizer, TinySDXLClip)


FAMILIES = {
    "sd1": TinySD1,
    "sd2": TinySD2,
    "sd2v": TinySD2,
    "sdxl": TinySDXL,
    "sdxlv": TinySDXL,
}


def register() -> None:
    """Make the host's model detection know the tiny families; a second call does nothing."""
    for family in (TinySD1, TinySD2, TinySDXL):
        if family not in supported_models.models:
            supported_models.models.append(family)
