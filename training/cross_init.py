"""Cross Initialization (Pang et al. 2024): words started from the text encoder's own output."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..concepts.concept import MAX_VECTORS
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
from .templates import OBJECT_TEMPLATES, PEOPLE_TEMPLATES, parse_templates
from .word_learner import WordLearner

WORDS = 2
PERSON = "person"


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
    """reg_weight: lambda of the regulariser that holds the words near their start

    initial_words: what the words start from in the class word's place; empty for the class word
    words: n, how many there are, where they start from names or from fewer tokens
    illustrations: people are also called illustrations and depictions, as in the published code;
        without, their prompts are those of all else
    literal_output: E(.) is what the UNet reads of a prompt, as the paper has it, on Stable
        Diffusion XL, too, where it lacks the final norm and is far from the size of embeddings; for
        studies
    """

    class_word: str = "person"
    init_from: InitFrom = InitFrom.NAMES
    regulariser: Regulariser = Regulariser.DISTANCE
    reg_weight: float = 1e-5
    steps: int = PRESETS["quality"].steps
    batch_size: int = 8
    learning_rate: float = PRESETS["quality"].learning_rate
    initial_words: str = ""
    words: int = WORDS
    illustrations: bool = True
    literal_output: bool = False
    former: ClassVar[Mapping[str, Any]] = {
        **TrainConfig.former,
        "initial_words": "",
        "words": WORDS,
        "illustrations": False,
        "literal_output": False,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "init_from", InitFrom(self.init_from))
        object.__setattr__(self, "regulariser", Regulariser(self.regulariser))
        if not self.class_word.strip():
            raise TrainingError(
                "The class_word is empty. Write what the subject is: person for a face, else a "
                "word such as dog."
            )
        if not 1 <= self.words < MAX_VECTORS:
            raise TrainingError(
                f"Expected 1 to {MAX_VECTORS - 1} words, got {self.words}. {WORDS} are usual."
            )
        if self.reg_weight < 0:
            raise TrainingError(
                f"Expected a reg_weight of 0 or more, got {self.reg_weight}. 1e-5 is usual."
            )

    @property
    def about_people(self) -> bool:
        """Whether the prompts call people illustrations and depictions, too."""
        return self.illustrations and self.class_word == PERSON


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
        own = PEOPLE_TEMPLATES if config.about_people else OBJECT_TEMPLATES
        super().__init__(
            config,
            backbone,
            pictures,
            words=self.initial,
            subjects=[subject],
            templates=parse_templates(config.templates, own),
        )

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
        first, last = mean_name(text).split(1)
        words = torch.cat([first, last.expand(config.words - 1, -1)])
    else:
        written = config.initial_words.strip() or config.class_word
        words = text.embed(torch.tensor(initial_tokens(text, written, config.words)))
    return encoded_words(text, words, literal=config.literal_output).clone()


def encoded_words(text: TextEncoder, words: Tensor, *, literal: bool = False) -> Tensor:
    """E(v) of words alone in a prompt, (n, d) -> (n, d); literal: the rows that the UNet reads."""
    table = PromptTable(text, [[range(len(words))]])
    prompts = table.embed(text, torch.tensor([0]), words)
    rows = text.encode(prompts).rows if literal else text.as_words(prompts)
    return rows[0, 1 : 1 + len(words)]


def mean_name(text: TextEncoder) -> Tensor:
    """Mean embedding of all first names and of all last names, (2, d)."""
    columns = zip(*known_names(), strict=True)
    ids = [[text.tokenize(name)[0] for name in column] for column in columns]
    return text.embed(torch.tensor(ids)).mean(dim=1)


def initial_tokens(text: TextEncoder, written: str, words: int = WORDS) -> list[Token]:
    """Tokens of what the words start from; the last is repeated where there are fewer than n."""
    tokens = text.tokenize(written)
    return tokens + tokens[-1:] * (words - len(tokens))


def subject_pieces(class_word: str, words: int) -> list[Piece]:
    """ "face of {words} person" for people, "{words} {class}" for all else."""
    before = "face of " if class_word == PERSON else ""
    return [before, range(words), f" {class_word}"]
