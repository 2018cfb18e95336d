"""A learner is found by its config, and brings what every method has in common."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from personalize.concepts.bases import BASES
from personalize.concepts.methods import Method, Part
from personalize.training import learner as module
from personalize.training.config import TrainConfig
from personalize.training.detex import Detex, DetexConfig
from personalize.training.learner import ConceptLearner, learner_of

pytestmark = pytest.mark.host

MINE = Method("mine", "Mine", (Part.WORDS,))


@dataclass(frozen=True, kw_only=True)
class MineConfig(TrainConfig):
    class_word: str = "dog"
    steps: int = 1
    batch_size: int = 1
    learning_rate: float = 0.1


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setattr(module, "_LEARNERS", dict(module._LEARNERS))

    class Mine(ConceptLearner):
        config_type: ClassVar = MineConfig
        method = MINE

        @property
        def parameters(self):
            return {"words": self.words}

        def loss(self, backbone, batch):
            return {"loss": self.words.sum()}

        def to_concept(self):
            return self.concept(words={"": self.words})

    return Mine


def test_it_is_found_by_its_config(mine):
    assert learner_of(MineConfig(placeholder="<it>")) is mine
    assert learner_of(DetexConfig(placeholder="<it>", class_word="dog")) is Detex


def test_a_variant_does_not_take_its_place(mine):
    class Variant(mine):
        """As a study makes one."""

    assert learner_of(MineConfig(placeholder="<it>")) is mine
    assert Variant.config_type is MineConfig


def test_a_concept_says_what_it_was_learned_with(mine):
    backbone = SimpleNamespace(base=BASES["sd1"], width=4, resolution=512)
    learner = mine(MineConfig(placeholder="<it>", class_word="mug"), backbone, pictures=None)
    learner.words = torch.ones(2, 4, requires_grad=True)
    concept = learner.to_concept()
    assert (concept.method, concept.base, concept.text_width) == (MINE, "sd1", 4)
    assert (concept.placeholder, concept.class_word) == ("<it>", "mug")
    assert concept.words[""].shape == (2, 4) and not concept.words[""].requires_grad


def test_what_is_no_learner_yet_cannot_be_made():
    class Unfinished(ConceptLearner):
        method = MINE

    unfinished: Any = Unfinished
    with pytest.raises(TypeError, match="abstract"):
        unfinished(None, None, None)
