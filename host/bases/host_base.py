"""What the pack asks of a base model. A new one is a file beside this one and a line in
`__init__.py`; `docs/add-a-base.md` tells how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from comfy.sd1_clip import SDClipModel, SDTokenizer
from torch import Tensor, nn

from ...concepts.bases import Base
from ...concepts.errors import BaseModelError
from ..conditioning import Conditioning, TowerOutput
from ..noising import Noising, discrete_noising


@dataclass(frozen=True)
class Tower:
    """One text encoder of a CLIP, with its tokenizer.

    name: in the CLIP's model and tokenizer, in concepts and stock embeddings, such as ``clip_l``
    """

    name: str
    encoder: SDClipModel
    tokenizer: SDTokenizer

    @property
    def key(self) -> str:
        """Its key in the host's tokenised prompts: ``l`` for ``clip_l``."""
        return self.name.removeprefix("clip_")

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without begin and end."""
        return self.tokenizer.tokenizer(text)["input_ids"][1:-1]

    @property
    def text_model(self) -> Any:
        """Its embeddings, layers and final norm; without the projection that follows them."""
        return self.encoder.transformer.text_model

    @property
    def width(self) -> int:
        return self.encoder.transformer.get_input_embeddings().weight.shape[1]


class HostBase:
    """A base model as the host has it. What is here holds for Stable Diffusion 1.x and 2.x, whose
    files name their classes alone; another base overrides what is different about it."""

    base: ClassVar[Base]
    configs: ClassVar[tuple[type, ...]]
    """The host's classes of this base's models, inpainting variants included."""

    relatives: ClassVar[Mapping[type, str]] = {}
    """The host's classes of models that are near to this base and not of it: what they are, and
    what to do instead, as a sentence that goes on from "This MODEL is"."""

    reads_vector: ClassVar[bool] = False
    """Whether the UNet reads a vector beside the prompt, which the host calls `y` and adm."""

    checkpointing: ClassVar[bool] = False
    """Whether blocks of the UNet are computed twice in training, to save memory, unless the user
    says otherwise."""

    def owns_model(self, config: Any) -> bool:
        """config: the `model_config` of a MODEL's model"""
        return isinstance(config, self.configs)

    def check_usable(self, model: ModelPatcher) -> None:
        """Refuse MODELs of the host's classes for this base that nothing of the pack fits."""

    def owns_clip(self, model: Any, tokenizer: Any) -> bool:
        """model, tokenizer: of a CLIP. Owned are those with this base's text encoders and no
        other: Flux has a `clip_l`, too."""
        children = model.named_children() if isinstance(model, nn.Module) else ()
        encoders = {name for name, child in children if isinstance(child, SDClipModel)}
        parts = getattr(tokenizer, "__dict__", {})
        tokenizers = {name for name, part in parts.items() if isinstance(part, SDTokenizer)}
        return encoders == tokenizers == set(self.base.encoder_names)

    def towers(self, clip: CLIP) -> tuple[Tower, ...]:
        """The text encoders of a CLIP that is owned, in the order in which a word holds them."""
        model, tokenizer = clip.cond_stage_model, clip.tokenizer
        return tuple(
            Tower(name, getattr(model, name), getattr(tokenizer, name))
            for name in self.base.encoder_names
        )

    def read_modules(self, towers: Sequence[Tower]) -> list[nn.Module]:
        """What of the text encoders the conditioning depends on.

        The projection behind them is left out: most files of Stable Diffusion 1.x lack it, and the
        host leaves such weights as uninitialised memory, another at every start.
        """
        return [tower.text_model for tower in towers]

    def join(self, outputs: Sequence[TowerOutput]) -> Conditioning:
        """The conditioning from what each text encoder has made, in their order."""
        (only,) = outputs
        return Conditioning(only.rows)

    def as_words(self, outputs: Sequence[TowerOutput]) -> Tensor:
        """What the encoders make of each token, at the place of its embedding, (B, T, text width).

        A base whose context is a layer without the final norm takes the last layer with it: only
        that is of a size with embeddings.
        """
        return self.join(outputs).rows

    def inputs(
        self, model: ModelPatcher, conditioning: Conditioning, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """What the host's `apply_model` is told beside latents, noise level and context.

        size: height and width of the training pictures in pixels
        """
        return {}

    def resolution(self, model: ModelPatcher) -> int:
        """Side in pixels of the pictures that a MODEL was trained on."""
        return self.base.resolution

    def noising(self, sampling: Any) -> Noising:
        """sampling: the MODEL's `model_sampling`; raises BaseModelError for a kind without one."""
        return discrete_noising(sampling)

    def projections(self, unet: nn.Module) -> dict[str, Any]:
        """The layers to_k and to_v of every cross attention, by their path in the UNet."""
        suffixes = (".attn2.to_k", ".attn2.to_v")
        return {
            path: layer
            for path, layer in unet.named_modules()
            if path.endswith(suffixes) and "weight" in layer._parameters  # quantised: no nn.Linear
        }

    def check_trainable(self, model: ModelPatcher) -> None:
        """Refuse variants whose UNet asks for more than the plain model's does."""
        unet = model.model.model_config.unet_config
        reads_vector = bool(unet.get("adm_in_channels"))
        if unet.get("in_channels") != 4 or reads_vector != self.reads_vector:
            raise BaseModelError(
                "This MODEL is an inpainting, depth, upscaling or unCLIP variant. Learn the "
                "concept on the plain model of the same family; it can be applied to the variant "
                "afterwards."
            )
