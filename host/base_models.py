"""Which base model a MODEL or a CLIP of the host is, and whether they belong together."""

from collections.abc import Sequence
from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor

from ..concepts.bases import Base
from ..concepts.errors import BaseModelError
from .bases import HOST_BASES
from .bases.host_base import HostBase, Tower

_TITLES = [known.base.title for known in HOST_BASES]
_SUPPORTED = f"{', '.join(_TITLES[:-1])} or {_TITLES[-1]}"


@dataclass(frozen=True)
class TextTowers:
    """The text encoders of a CLIP, and the base model that they belong to."""

    host_base: HostBase
    towers: tuple[Tower, ...]

    @property
    def base(self) -> Base:
        return self.host_base.base

    @property
    def widths(self) -> list[int]:
        return [tower.width for tower in self.towers]

    @property
    def width(self) -> int:
        """Width of a word: its vectors in all encoders, side by side."""
        return sum(self.widths)

    @property
    def title(self) -> str:
        return f"{self.base.title} (text width {self.width})"

    def split(self, words: Tensor) -> Sequence[Tensor]:
        """The part of each encoder in words (..., width)."""
        return words.split(self.widths, dim=-1)


def towers_of(clip: CLIP) -> TextTowers:
    """The text encoders of a CLIP; raise BaseModelError for one of a base that is not known."""
    if clip is None:
        raise BaseModelError(
            "There is no CLIP: the checkpoint holds none. Take the CLIP of a "
            f"{_SUPPORTED} checkpoint."
        )
    model, tokenizer = clip.cond_stage_model, clip.tokenizer
    for known in HOST_BASES:
        if known.owns_clip(model, tokenizer):
            return TextTowers(known, known.towers(clip))
    raise BaseModelError(
        f"This CLIP is a {type(model).__name__} with a {type(tokenizer).__name__}. Expected the "
        f"CLIP of a {_SUPPORTED} checkpoint."
    )


def base_of_model(model: ModelPatcher) -> HostBase:
    """The base of a MODEL, inpainting variants included; raise BaseModelError for another model."""
    config = getattr(model.model, "model_config", None)
    for known in HOST_BASES:
        if known.owns_model(config):
            known.check_usable(model)
            return known
        for kind, sentence in known.relatives.items():
            if isinstance(config, kind):
                raise BaseModelError(f"This MODEL is {sentence}")
    raise BaseModelError(f"This MODEL is a {type(config).__name__}. Expected a {_SUPPORTED} model.")


def context_width(model: ModelPatcher) -> int:
    """Width of the conditioning that the UNet's cross attention reads."""
    return model.model.model_config.unet_config["context_dim"]


def check_pair(model: ModelPatcher, clip: CLIP) -> TextTowers:
    """The CLIP's text encoders when it belongs to the MODEL; raise BaseModelError otherwise."""
    text, base = towers_of(clip), base_of_model(model).base
    if text.base != base or text.width != context_width(model):
        raise BaseModelError(
            f"The MODEL is {base.title} (text width {context_width(model)}), but the CLIP is "
            f"{text.title}. Take both from one checkpoint."
        )
    return text
