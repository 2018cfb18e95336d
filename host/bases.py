"""Which base model a MODEL or a CLIP of the host is, and whether they belong together."""

from dataclasses import dataclass
from typing import Any

from comfy import supported_models
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy.sd1_clip import SDClipModel, SDTokenizer

from ..concepts.concept import BASES, Base
from ..concepts.errors import BaseModelError

_SUPPORTED = "Stable Diffusion 1.x or 2.x"
_KINDS = {supported_models.SD15: "sd1", supported_models.SD20: "sd2"}


@dataclass(frozen=True)
class TextTower:
    """The one CLIP text encoder of a CLIP socket, with its tokenizer."""

    base: Base
    encoder: SDClipModel
    tokenizer: SDTokenizer

    @property
    def width(self) -> int:
        return self.encoder.transformer.get_input_embeddings().weight.shape[1]

    @property
    def title(self) -> str:
        return f"{self.base.title} (text width {self.width})"


def text_tower(clip: CLIP) -> TextTower:
    """The text encoder and tokenizer of SD1.x (clip_l) or SD2.x (clip_h); raise for any other."""
    if clip is None:
        raise BaseModelError(
            "There is no CLIP: the checkpoint holds none. Take the CLIP of a "
            f"{_SUPPORTED} checkpoint."
        )
    model, tokenizer = clip.cond_stage_model, clip.tokenizer
    words = inner_tokenizer(tokenizer)
    for base in BASES.values():
        encoder = getattr(model, base.text_key, None)
        only = getattr(model, "clip", None) == base.text_key
        if only and isinstance(encoder, SDClipModel) and isinstance(words, SDTokenizer):
            return TextTower(base, encoder, words)
    raise BaseModelError(
        f"This CLIP is a {type(model).__name__} with a {type(tokenizer).__name__}. Expected the "
        f"CLIP of a {_SUPPORTED} checkpoint."
    )


def inner_tokenizer(tokenizer: Any) -> SDTokenizer | None:
    """The tokenizer of the one text encoder that a CLIP's tokenizer is about."""
    words = getattr(tokenizer, getattr(tokenizer, "clip", ""), None)
    return words if isinstance(words, SDTokenizer) else None


def base_of_model(model: ModelPatcher) -> Base:
    """SD1.x or SD2.x, inpainting variants included; raise for any other model."""
    config = getattr(model.model, "model_config", None)
    for kind, base in _KINDS.items():
        if isinstance(config, kind):
            return BASES[base]
    raise BaseModelError(f"This MODEL is a {type(config).__name__}. Expected a {_SUPPORTED} model.")


def check_trainable(model: ModelPatcher) -> None:
    """Refuse variants whose UNet asks for more than a latent and a prompt."""
    unet = model.model.model_config.unet_config
    if unet.get("in_channels") != 4 or unet.get("adm_in_channels"):
        raise BaseModelError(
            "This MODEL is an inpainting, depth, upscaling or unCLIP variant. Learn the concept on "
            "the plain model of the same family; it can be applied to the variant afterwards."
        )


def context_width(model: ModelPatcher) -> int:
    """Width of the conditioning that the UNet's cross attention reads."""
    return model.model.model_config.unet_config["context_dim"]


def check_pair(model: ModelPatcher, clip: CLIP) -> TextTower:
    """The CLIP's text tower, when MODEL and CLIP are of the same base model; raise otherwise."""
    tower, base = text_tower(clip), base_of_model(model)
    if tower.base != base or tower.width != context_width(model):
        raise BaseModelError(
            f"The MODEL is {base.title} (text width {context_width(model)}), but the CLIP is "
            f"{tower.title}. Take both from one checkpoint."
        )
    return tower
