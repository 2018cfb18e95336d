"""CatVersion (Zhao et al. 2023): residual keys and values in the last text layers."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..concepts.bases import TextLayer
from ..concepts.concept import MAX_VECTORS, Concept
from ..concepts.errors import TrainingError
from ..concepts.methods import CATVERSION
from ..concepts.residual_attention import Residuals, attend_with_residuals
from ..concepts.residuals import OFFICIAL_BIAS, Pairs, residual_tensors
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from ..host.text_attention import LayerAttentions
from ..host.text_encoder import HiddenState
from .batch import Batch, denoising_loss
from .config import TrainConfig, check_class_word
from .learner import ConceptLearner
from .pictures import EncodedPictures


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


class CatVersion(ConceptLearner):
    """Trainable residual keys and values, each (layers, n, width of a word).

    changed: for each row of them the layers that it is of, one in each text encoder
    """

    config_type = CatVersionConfig
    method = CATVERSION

    def __init__(
        self, config: CatVersionConfig, backbone: Backbone, pictures: EncodedPictures
    ) -> None:
        super().__init__(config, backbone, pictures)
        text = backbone.text
        self.split = backbone.split
        columns = [
            [TextLayer(last.encoder, n) for n in changed_layers(config, last.index + 1)]
            for last in text.last_layers
        ]
        self.changed = list(zip(*columns, strict=True))
        shape = (2, len(self.changed), config.residual_tokens, backbone.width)
        generator = torch.Generator().manual_seed(config.train_seed)
        start = torch.randn(shape, generator=generator).to(text.device)
        self.keys = start[0].clone().requires_grad_(True)
        self.values = start[1].clone().requires_grad_(True)
        with torch.no_grad():
            prompts = text.prompts([config.class_word])
            self._entering: HiddenState = text.hidden(prompts, dict(self.changed[0]))

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values}

    def loss(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """L_LDM (eq. 6) on the bare class word, encoded with the residuals."""
        return {"denoising": denoising_loss(backbone, batch, self.context(backbone, batch))}

    def context(self, backbone: Backbone, batch: Batch) -> Conditioning:
        """The class word's conditioning for each row. What enters the first changed layers is
        constant, so it was computed once."""
        return backbone.text.finish(self._entering, self._attention()).expand(len(batch.t))

    def _attention(self) -> LayerAttentions:
        bias = self.config.logit_bias
        return {
            layer: partial(attend_with_residuals, residuals=[Residuals(keys, values, bias)])
            for layer, (keys, values) in self._pairs().items()
        }

    def _pairs(self) -> Pairs:
        """Residual keys and values by layer."""
        pairs = {}
        for layers, keys, values in zip(self.changed, self.keys, self.values, strict=True):
            parts = zip(self.split(keys), self.split(values), strict=True)
            pairs |= zip(layers, parts, strict=True)
        return pairs

    def to_concept(self) -> Concept:
        tensors = residual_tensors(self.base, self._pairs(), self.config.logit_bias)
        return self.concept(tensors=tensors)


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
