"""CatVersion (Zhao et al. 2023): residual keys and values in the last text layers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..concepts.concept import MAX_VECTORS, Concept
from ..concepts.errors import TrainingError
from ..concepts.methods import CATVERSION
from ..concepts.residuals import OFFICIAL_BIAS, residual_tensors
from ..host.backbone import Backbone
from ..host.residual_attention import Layers, Residuals
from .batch import Batch, denoising_loss
from .config import TrainConfig, check_class_word


@dataclass(frozen=True, kw_only=True)
class CatVersionConfig(TrainConfig):
    """residual_tokens: n, residual keys and values a layer

    layers: how many text layers are changed, counted back from the last that reaches the UNet
    last_layer: the last changed layer, 0 for the last that reaches the UNet; for studies
    logit_bias: added to the logits of the residual columns, 1 in the published code, 0 in the paper
    """

    class_word: str
    residual_tokens: int = 1
    layers: int = 3
    last_layer: int = 0
    logit_bias: float = OFFICIAL_BIAS
    steps: int = 1000
    batch_size: int = 1
    learning_rate: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.residual_tokens <= MAX_VECTORS:
            raise TrainingError(
                f"Expected 1 to {MAX_VECTORS} residual_tokens, got {self.residual_tokens}. "
                "1 is usual."
            )
        check_class_word(self.class_word)


class CatVersion:
    """Trainable residual keys and values, each (layers, n, d)."""

    def __init__(self, config: CatVersionConfig, backbone: Backbone) -> None:
        text = backbone.text
        self.config, self.base, self.width = config, backbone.base.key, backbone.width
        self.changed = changed_layers(config, text.last_layer + 1)
        shape = (2, len(self.changed), config.residual_tokens, text.width)
        generator = torch.Generator().manual_seed(config.train_seed)
        start = torch.randn(shape, generator=generator).to(backbone.device)
        self.keys = start[0].clone().requires_grad_(True)
        self.values = start[1].clone().requires_grad_(True)
        self.ids = torch.tensor([text.pad(text.tokenize(config.class_word))])
        self._entering: Tensor | None = None

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values}

    @property
    def prompts(self) -> int:
        return 1

    def loss(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """L_LDM (eq. 6) on the bare class word, encoded with the residuals."""
        return {"denoising": denoising_loss(backbone, batch, self.context(backbone, batch))}

    def context(self, backbone: Backbone, batch: Batch) -> Tensor:
        """The class word's conditioning for each row, (B, 77, d). What enters the first changed
        layer is constant, so it is computed once."""
        text, first = backbone.text, self.changed[0]
        if self._entering is None:
            with torch.no_grad():
                self._entering = text.hidden(text.embed(self.ids), stop=first)
        encoded = text.finish(self._entering, start=first, residuals=self._residuals())
        return encoded.expand(len(batch.t), -1, -1)

    def _residuals(self) -> Layers:
        return {
            layer: [Residuals(self.keys[n], self.values[n], self.config.logit_bias)]
            for n, layer in enumerate(self.changed)
        }

    def to_concept(self) -> Concept:
        layers = {n: (k, v) for n, k, v in zip(self.changed, self.keys, self.values, strict=True)}
        return Concept(
            method=CATVERSION,
            base=self.base,
            text_width=self.width,
            placeholder=self.config.placeholder,
            class_word=self.config.class_word,
            tensors=residual_tensors(layers, self.config.logit_bias),
        )


def changed_layers(config: CatVersionConfig, available: int) -> list[int]:
    """Indices of the changed text layers among those that reach the UNet."""
    end = config.last_layer or available
    if config.layers < 1 or end > available or config.layers > end:
        raise TrainingError(
            f"Expected 1 to {end if end <= available else available} layers, got {config.layers} "
            f"that end at layer {end}; {available} layers of this text encoder reach the UNet. "
            "3 is usual."
        )
    return list(range(end - config.layers, end))
