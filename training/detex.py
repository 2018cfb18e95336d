"""DETEX (Cai et al. 2024): a subject word, and a pose and a background word for each picture.

The paper alone was read, not its authors' program. Where the paper is silent: the mappers' first
words have the length of the vocabulary's, the background is blanked with white, and pictures are
not mirrored, since a mirrored picture has another pose.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ClassVar, Protocol

import torch
from torch import Generator, Tensor
from torch.nn.functional import adaptive_avg_pool2d, leaky_relu, linear

from ..concepts.concept import Concept
from ..concepts.errors import TrainingError
from ..concepts.methods import DETEX
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning
from ..host.vision import image_embeddings
from ..pictures.images import single_pictures, square_pictures
from ..pictures.masks import square_masks
from .batch import Batch
from .learner import ConceptLearner
from .pictures import EncodedPictures, encode_squares
from .preservation import (
    BatchWithPrior,
    PicturesWithPrior,
    PriorConfig,
    draw_with_prior,
    encode_prior,
    losses_with_prior,
)
from .projections import open_projections
from .prompts import Piece, PromptTable, encoded_prompt
from .sources import Sources
from .textual_inversion import vocabulary_words

PRINTED_RATE = 1e-5
"""The printed rate, read as that of each picture, as its ancestor's; docs/detex.md measures it."""

MAPPER_LAYERS = 3
BLANK = 1.0  # what a pixel of a removed background becomes


class PoseWord(str, Enum):
    """What the attribute is called in training: `view` for rigid things, else `pose`."""

    POSE = "pose"
    VIEW = "view"


class AttentionNorm(str, Enum):
    """||A - m|| of the attention loss, which the paper leaves open; docs/detex.md measures them."""

    NORM = "norm"
    BY_MAXIMUM = "by maximum"
    MEAN_SQUARE = "mean square"


class PoseSees(str, Enum):
    """What the mapper of pose words is given: the whole picture, or the subject on white."""

    PICTURE = "picture"
    SUBJECT = "subject"


@dataclass(frozen=True, kw_only=True)
class DetexConfig(PriorConfig):
    """attention_weight: of L_CA, which holds each attribute word to its part of the picture

    attention_norm: how L_CA measures a map's distance from its mask
    pose_sees: what the mapper of pose words sees of a picture; that of background words sees all
    mask_probability: gamma, how often the background is removed from picture and prompt
    mappers: attribute words come from mappers on the image embedding; False trains them as they
        are, for studies
    """

    pose_word: PoseWord = PoseWord.POSE
    attention_weight: float = 0.01
    attention_norm: AttentionNorm = AttentionNorm.BY_MAXIMUM
    mask_probability: float = 0.5
    mappers: bool = True
    pose_sees: PoseSees = PoseSees.PICTURE
    flip: bool = False
    steps: int = 600
    batch_size: int = 4
    learning_rate: float = 4 * PRINTED_RATE
    former: ClassVar[Mapping[str, Any]] = {
        **PriorConfig.former,
        "attention_norm": AttentionNorm.MEAN_SQUARE,
        "pose_sees": PoseSees.PICTURE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "pose_word", PoseWord(self.pose_word))
        object.__setattr__(self, "attention_norm", AttentionNorm(self.attention_norm))
        object.__setattr__(self, "pose_sees", PoseSees(self.pose_sees))
        if self.attention_weight < 0:
            raise TrainingError(
                f"Expected an attention_weight of 0 or more, got {self.attention_weight}. 0.01 is "
                "usual."
            )
        if not 0 <= self.mask_probability <= 1:
            raise TrainingError(
                f"Expected a mask_probability of 0 to 1, got {self.mask_probability}. 0.5 is usual."
            )


@dataclass(frozen=True, kw_only=True)
class DetexPictures(PicturesWithPrior):
    """embeddings: CLIP's of the pictures, (N, e); masks: 1 on the subject, (N, size, size)

    subjects: embeddings of the subjects alone, None when the mapper of pose words sees all
    blanked: the pictures without their background, None when they are not needed
    """

    embeddings: Tensor
    masks: Tensor
    blanked: EncodedPictures | None
    subjects: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        blanked = self.blanked.tensors() if self.blanked is not None else []
        subjects = [] if self.subjects is None else [self.subjects]
        return [*super().tensors(), self.embeddings, self.masks, *blanked, *subjects]


@dataclass(frozen=True, kw_only=True)
class DetexBatch(BatchWithPrior):
    """blanked: the same latents as x0, of the pictures without their background; chance: a number
    in 0..1 for each row, which chooses between x0 and blanked. None when nothing is to be removed
    """

    blanked: Tensor | None = None
    chance: Tensor | None = None


class Detex(ConceptLearner):
    """The subject word v (1, d), pose words p and background words b (N, d), the projections."""

    config_type = DetexConfig
    method = DETEX

    def __init__(self, config: DetexConfig, backbone: Backbone, pictures: DetexPictures) -> None:
        super().__init__(config, backbone, pictures)
        text, count = backbone.text, len(pictures.masks)
        if count == 1:
            logging.warning(
                "DETEX learns from one picture: what is subject and what is pose can hardly be "
                "told apart. Better give it 4 pictures in other poses and places."
            )
        word = vocabulary_words(text, config.init_word, 1)
        self.word = word.detach().clone().requires_grad_(True)
        generator = Generator().manual_seed(config.train_seed)
        seen = pictures.embeddings if pictures.subjects is None else pictures.subjects
        sizes = text.word_sizes()
        mappers = [
            WordMapper.started(embeddings.to(text.device), sizes, generator)
            for embeddings in (seen, pictures.embeddings)
        ]
        self.pose, self.background = (
            mapper if config.mappers else FreeWords(mapper.words().detach()) for mapper in mappers
        )
        self.table = prompt_table(config, backbone, count)
        self.slots = self.table.slots.to(backbone.device)
        self.prior_context = encoded_prompt(backbone, config.prior_prompt)
        self.projections = open_projections(backbone, self.config.rank, config.train_seed)
        if not config.first_token:
            backbone.detach_first_token()
        self.masks = pictures.masks.to(backbone.device)
        if config.attention_weight:
            side = backbone.latent_side // 2  # 32 of the paper's 64
            self.reader = backbone.attention_reader(side)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {
            "words": self.word,
            **{f"pose.{name}": p for name, p in self.pose.parameters.items()},
            **{f"background.{name}": p for name, p in self.background.parameters.items()},
            **self.projections.parameters,
        }

    @property
    def reads_maps(self) -> bool:
        return bool(self.config.attention_weight)

    @classmethod
    def prepare(cls, config: DetexConfig, sources: Sources, backbone: Backbone) -> DetexPictures:
        squares = square_pictures(sources.images, config.resolution)
        pictures = encode_squares(sources.vae, squares, config.flip)
        masks = square_masks(
            sources.masks,
            list(single_pictures(sources.images)),
            config.resolution,
            marks=sources.mask_marks,
            warn=sources.warn,
        )
        inside, blanked, subjects = masks[..., None], None, None
        without = squares * inside + BLANK * (1 - inside)
        if config.mask_probability:
            blanked = encode_squares(sources.vae, without, config.flip)
        if config.pose_sees is PoseSees.SUBJECT:
            subjects = image_embeddings(sources.clip_vision, without)
        return DetexPictures(
            **vars(pictures),
            embeddings=image_embeddings(sources.clip_vision, squares),
            masks=masks,
            blanked=blanked,
            subjects=subjects,
            prior=encode_prior(config, sources, backbone, pictures),
        )

    def draw(self, backbone: Backbone, generator: Generator) -> DetexBatch:
        """As with any class pictures, and then the same pictures without their background."""
        pictures, size = self.pictures, self.config.batch_size
        batch = draw_with_prior(pictures, backbone, generator, size=size)
        if pictures.blanked is None or batch.mirrored is None:
            return DetexBatch(**vars(batch))
        blanked = pictures.blanked.sample(batch.index, batch.mirrored, generator)
        chance = torch.rand(size, generator=generator)
        return DetexBatch(
            **vars(batch),
            blanked=backbone.denoiser.scale_latents(blanked.to(backbone.device)),
            chance=chance.to(backbone.device),
        )

    def loss(self, backbone: Backbone, batch: DetexBatch) -> dict[str, Tensor]:
        """L = L_LDM + prior_weight L_prior + attention_weight L_CA (eq. 5 of the paper)."""
        removed = self.removed(batch)
        if batch.blanked is not None:
            batch = replace(batch, x0=torch.where(_column(removed), batch.blanked, batch.x0))
        context = self.context(backbone, batch, removed)
        prior = {"prior_context": self.prior_context, "prior_weight": self.config.prior_weight}
        if not self.config.attention_weight:
            return losses_with_prior(backbone, batch, context, **prior)
        with self.reader.reading():
            terms = losses_with_prior(backbone, batch, context, **prior)
        attention = self.config.attention_weight * self.attention_loss(batch, removed)
        return {**terms, "attention": attention}

    def removed(self, batch: DetexBatch) -> Tensor:
        """Which rows lose their background, (B,), with probability gamma."""
        if batch.chance is None:
            return torch.zeros(len(batch.t), dtype=torch.bool, device=batch.x0.device)
        return batch.chance < self.config.mask_probability

    def context(self, backbone: Backbone, batch: Batch, removed: Tensor) -> Conditioning:
        """Conditioning of the batch's prompts."""
        words = torch.cat([self.word, self.pose.words(), self.background.words()])
        rows = self.prompt_rows(batch, removed)
        return backbone.text.encode(self.table.embed(backbone.text, rows, words))

    def prompt_rows(self, batch: Batch, removed: Tensor) -> Tensor:
        """Rows of the prompt table, (B,): with the background, and after these without it."""
        return batch.index + len(self.masks) * removed

    def attention_loss(self, batch: Batch, removed: Tensor) -> Tensor:
        """L_CA = E ||A(P) - m|| + ||A(B) - (1 - m)|| with the chosen norm; a row without its
        background has no second part."""
        slots = self.slots[self.prompt_rows(batch, removed)]
        wanted = torch.stack([1 + batch.index, 1 + len(self.masks) + batch.index], dim=1)
        places = (slots[:, None] == wanted[..., None]).int().argmax(dim=-1)  # (B, 2)
        maps = self.reader.word_maps(places)
        inside = self.masks_of(batch, maps.shape[-1])
        distance = DISTANCES[self.config.attention_norm]
        pose, background = (
            distance(maps[:, n], target) for n, target in enumerate((inside, 1 - inside))
        )
        return (pose + background * ~removed).mean()

    def masks_of(self, batch: Batch, side: int) -> Tensor:
        """Mask of each row at a map's size, by area, (B, side, side)."""
        masks = self.masks[batch.index]
        if batch.mirrored is not None:
            mirrored = batch.mirrored[:, None, None]
            masks = torch.where(mirrored, masks.flip(-1), masks)
        return adaptive_avg_pool2d(masks[:, None], side)[:, 0]

    def to_concept(self) -> Concept:
        with torch.no_grad():
            named = {"pose": self.pose.words(), "background": self.background.words()}
        attributes = {
            f"{name}{n + 1}": word[None] for name, words in named.items() for n, word in
            enumerate(words)
        }  # fmt: skip
        return self.concept(
            words={"": self.word, **attributes},
            tensors=self.projections.tensors(),
        )


def norm_distance(maps: Tensor, wanted: Tensor) -> Tensor:
    """||A - m||, as the paper prints it, (B, h, w) each -> (B,). Grows with the maps' size."""
    return torch.linalg.vector_norm(maps - wanted, dim=(1, 2))


def mean_square_distance(maps: Tensor, wanted: Tensor) -> Tensor:
    """mean (A - m)^2 of the shares of attention as they are, (B, h, w) each -> (B,)."""
    return (maps - wanted).square().mean(dim=(1, 2))


def distance_by_maximum(maps: Tensor, wanted: Tensor) -> Tensor:
    """mean (A / max A - m)^2, as in Break-A-Scene (Avrahami et al. 2023), which the paper cites for
    its loss: a word need not take all attention on its part of the picture from the others."""
    return mean_square_distance(maps / maps.amax(dim=(1, 2), keepdim=True), wanted)


DISTANCES = {
    AttentionNorm.NORM: norm_distance,
    AttentionNorm.BY_MAXIMUM: distance_by_maximum,
    AttentionNorm.MEAN_SQUARE: mean_square_distance,
}


def prompt_table(config: DetexConfig, backbone: Backbone, count: int) -> PromptTable:
    """Each picture's prompt with its background, then each one's without; rows of the vectors are
    v, then every p, then every b."""
    prompts: list[list[Piece]] = []
    for ending in (True, False):
        for n in range(count):
            pose, background = range(1 + n, 2 + n), range(1 + count + n, 2 + count + n)
            prompt: list[Piece] = ["photo of a ", range(1), f" {config.class_word} with ", pose]
            prompt.append(f" {config.pose_word.value}")
            prompts.append([*prompt, " in ", background, " background"] if ending else prompt)
    return PromptTable(backbone.text, prompts)


class AttributeWords(Protocol):
    """One word a picture, (N, d), and what is trained of it."""

    @property
    def parameters(self) -> Mapping[str, Tensor]: ...

    def words(self) -> Tensor: ...


@dataclass(frozen=True)
class FreeWords:
    """Words that are trained themselves."""

    start: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", self.start.clone().requires_grad_(True))

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        return {"words": self.start}

    def words(self) -> Tensor:
        return self.start


@dataclass(frozen=True)
class WordMapper:
    """M: three linear layers with LeakyReLU between, from image embeddings (N, e) to words (N, d).

    parameters: `0.weight`, `0.bias`, `1.weight` ..., (out, in) and (out,)
    """

    embeddings: Tensor
    parameters: Mapping[str, Tensor]

    @classmethod
    def started(
        cls, embeddings: Tensor, sizes: Sequence[tuple[int, float]], generator: Generator
    ) -> "WordMapper":
        """Uniform weights of torch's linear layers; the last layer is scaled so that the words have
        these norms in the mean.

        sizes: width and norm of the words in each text encoder
        """
        size, width = embeddings.shape[1], sum(width for width, _ in sizes)
        parameters = {}
        for layer in range(MAPPER_LAYERS):
            out = width if layer == MAPPER_LAYERS - 1 else size
            for name, shape in (("weight", (out, size)), ("bias", (out,))):
                uniform = torch.rand(shape, generator=generator) * 2 - 1
                parameters[f"{layer}.{name}"] = (uniform / size**0.5).to(embeddings.device)
        parts = cls(embeddings, parameters).words().split([width for width, _ in sizes], dim=-1)
        scale = torch.cat(
            [
                (norm / part.norm(dim=1).mean()).expand(part_width)
                for part, (part_width, norm) in zip(parts, sizes, strict=True)
            ]
        )
        parameters[f"{MAPPER_LAYERS - 1}.weight"] *= scale[:, None]
        parameters[f"{MAPPER_LAYERS - 1}.bias"] *= scale
        return cls(embeddings, {k: p.requires_grad_(True) for k, p in parameters.items()})

    def words(self) -> Tensor:
        x = self.embeddings
        for layer in range(MAPPER_LAYERS):
            x = leaky_relu(x) if layer else x
            x = linear(x, self.parameters[f"{layer}.weight"], self.parameters[f"{layer}.bias"])
        return x


def _column(rows: Tensor) -> Tensor:
    return rows.view(-1, 1, 1, 1)
