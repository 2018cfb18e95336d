"""Cross Initialization (Pang et al. 2024): words started from the text encoder's own output."""

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from ..concepts.errors import TrainingError
from ..concepts.methods import CROSS_INIT
from ..host.backbone import Backbone
from ..host.text_encoder import TextEncoder, Token
from .batch import Batch
from .config import TrainConfig
from .names import known_names
from .pictures import EncodedPictures
from .presets import SDXL_WORDS, Preset
from .prompts import Piece, PromptTable
from .word_learner import WordLearner

WORDS = 2


class InitFrom(str, Enum):
    """What E(.) is asked about: the mean of well-known people, or the class word."""

    NAMES = "names"
    CLASS_WORD = "class word"


class Regulariser(str, Enum):
    """Distance to the initial words: the published code's mean L2 norm, or the paper's square."""

    DISTANCE = "distance"
    SQUARED = "squared"


PRESETS = {"quality": Preset(320, 0.005), "fast": Preset(25, 0.08), "sdxl": SDXL_WORDS}
"""The paper's two settings, section 4.1, and one for Stable Diffusion XL."""


@dataclass(frozen=True, kw_only=True)
class CrossInitConfig(TrainConfig):
    """reg_weight: lambda of the regulariser that holds the words near their start"""

    class_word: str = "person"
    init_from: InitFrom = InitFrom.NAMES
    regulariser: Regulariser = Regulariser.DISTANCE
    reg_weight: float = 1e-5
    steps: int = PRESETS["quality"].steps
    batch_size: int = 8
    learning_rate: float = PRESETS["quality"].learning_rate

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "init_from", InitFrom(self.init_from))
        object.__setattr__(self, "regulariser", Regulariser(self.regulariser))
        if not self.class_word.strip():
            raise TrainingError(
                "The class_word is empty. Write what the subject is: person for a face, else a "
                "word such as dog."
            )
        if self.reg_weight < 0:
            raise TrainingError(
                f"Expected a reg_weight of 0 or more, got {self.reg_weight}. 1e-5 is usual."
            )


class CrossInit(WordLearner):
    """The trainable words of one concept, (n, d), and where they started, v_init."""

    config_type = CrossInitConfig
    method = CROSS_INIT

    def __init__(
        self, config: CrossInitConfig, backbone: Backbone, pictures: EncodedPictures
    ) -> None:
        with torch.no_grad():
            self.initial = initial_words(backbone.text, config)
        subject = subject_pieces(config.class_word, len(self.initial))
        super().__init__(config, backbone, pictures, words=self.initial, subject=subject)

    def loss(self, backbone: Backbone, batch: Batch) -> dict[str, Tensor]:
        """L_LDM + lambda L_reg (eq. 5)."""
        measure = REGULARISERS[self.config.regulariser]
        parts = zip(backbone.split(self.words), backbone.split(self.initial), strict=True)
        distance = torch.stack([measure(words, initial) for words, initial in parts]).sum()
        return {
            **super().loss(backbone, batch),
            "regulariser": self.config.reg_weight * distance,
        }


def mean_distance(words: Tensor, initial: Tensor) -> Tensor:
    """Mean over the words of ||v - v_init||_2, as the published code computes it."""
    difference = words - initial
    # the norm has no gradient where v = v_init, the very first step: there it is taken as 0
    moved = (difference != 0).any(dim=1)
    norms = torch.where(moved[:, None], difference, 1.0).norm(dim=1)
    return torch.where(moved, norms, 0.0).mean()


def squared_distance(words: Tensor, initial: Tensor) -> Tensor:
    """||v - v_init||_2^2, as the paper prints it (eq. 4)."""
    return (words - initial).square().sum()


REGULARISERS = {Regulariser.DISTANCE: mean_distance, Regulariser.SQUARED: squared_distance}


def initial_words(text: TextEncoder, config: CrossInitConfig) -> Tensor:
    """v_init = E(v): the encoders' output rows at the words' places, (n, d) (eq. 3)."""
    if config.init_from is InitFrom.NAMES:
        words = mean_name(text)
    else:
        words = text.embed(torch.tensor(class_tokens(text, config.class_word)))
    return encoded_words(text, words).clone()


def encoded_words(text: TextEncoder, words: Tensor) -> Tensor:
    """E(v) of words alone in a prompt, (n, d) -> (n, d)."""
    table = PromptTable(text, [[range(len(words))]])
    prompts = table.embed(text, torch.tensor([0]), words)
    return text.as_words(prompts)[0, 1 : 1 + len(words)]


def mean_name(text: TextEncoder) -> Tensor:
    """Mean embedding of all first names and of all last names, (2, d)."""
    columns = zip(*known_names(), strict=True)
    ids = [[text.tokenize(name)[0] for name in column] for column in columns]
    return text.embed(torch.tensor(ids)).mean(dim=1)


def class_tokens(text: TextEncoder, class_word: str) -> list[Token]:
    """Tokens of the class word; a single one is repeated, for the method's two words."""
    tokens = text.tokenize(class_word)
    return tokens if len(tokens) >= WORDS else tokens * WORDS


def subject_pieces(class_word: str, words: int) -> list[Piece]:
    """ "face of {words} person" for people, "{words} {class}" for all else."""
    before = "face of " if class_word == "person" else ""
    return [before, range(words), f" {class_word}"]
