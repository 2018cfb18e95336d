"""What every method that learns a concept from a few pictures has in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Generator, Tensor

from ..concepts.concept import Concept
from ..concepts.methods import Method
from ..host.backbone import Backbone
from .batch import Batch, draw_batch
from .config import TrainConfig
from .pictures import EncodedPictures, encode_pictures
from .sources import Sources

_LEARNERS: dict[type[TrainConfig], type["ConceptLearner"]] = {}


class ConceptLearner(ABC):
    """A concept in training: what is trained of it, on what, and with which loss.

    A learner that names a `config_type` is found by the configs of that class.

    config: the settings, of `config_type`
    pictures: what `prepare` made
    """

    config_type: ClassVar[type[TrainConfig]]
    method: ClassVar[Method]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "config_type" in vars(cls):  # not inherited: a variant does not take its parent's place
            _LEARNERS[cls.config_type] = cls

    def __init__(self, config: Any, backbone: Backbone, pictures: Any) -> None:
        """Inside a session. Random starts come from a generator seeded with `train_seed`."""
        self.config = config.on_base(backbone.base, backbone.resolution)
        self.pictures = pictures
        self.base, self.width = backbone.base, backbone.width

    @classmethod
    def prepare(cls, config: Any, sources: Sources, backbone: Backbone) -> EncodedPictures:
        """All that will be learned from, encoded once, before the session begins.

        The host may load, patch and sample here. What tells this training from others beside its
        config and models must be among the `tensors` of the result.
        """
        return encode_pictures(sources.vae, sources.images, config.resolution, config.flip)

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """Trainable fp32 leaves by name, always the same objects."""

    @property
    def prompts(self) -> int:
        """How many training prompts there are to draw from."""
        return 1

    @property
    def reads_maps(self) -> bool:
        """Whether its loss looks at attention maps, which need memory of their own."""
        return False

    def draw(self, backbone: Backbone, generator: Generator) -> Batch:
        """The next batch. All that is random in a step is drawn here, from this generator."""
        size = self.config.batch_size
        return draw_batch(self.pictures, backbone, generator, size=size, prompts=self.prompts)

    @abstractmethod
    def loss(self, backbone: Backbone, batch: Any) -> dict[str, Tensor]:
        """Terms of the loss by name, weights included; their sum is minimised."""

    @abstractmethod
    def to_concept(self) -> Concept:
        """What was learned so far."""

    def concept(
        self,
        words: Mapping[str, Tensor] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        class_words: Mapping[str, str] | None = None,
    ) -> Concept:
        """A concept of this method, model and subject, of these parts."""
        return Concept(
            method=self.method,
            base=self.base.key,
            text_width=self.width,
            placeholder=self.config.placeholder,
            class_word=self.config.class_word,
            words=words or {},
            tensors=tensors or {},
            class_words=class_words or {},
        )


def learner_of(config: TrainConfig) -> type[ConceptLearner]:
    """The learner whose `config_type` the config is of."""
    return _LEARNERS[type(config)]
