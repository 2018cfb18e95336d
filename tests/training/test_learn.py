"""The loop: what it learns, that it can be stopped and resumed, and that it touches nothing."""

import pytest
import torch
from personalize.concepts.errors import TrainingError
from personalize.training.cross_init import CrossInitConfig
from personalize.training.learn import learn
from personalize.training.textual_inversion import TextualInversionConfig

pytestmark = pytest.mark.host


@pytest.fixture(params=["tiny_sd1", "tiny_sd2", "tiny_sd2v"])
def tiny(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 70, 80, 3, generator=generator), torch.rand(2, 64, 64, 3)]


def ti(**changes):
    settings = {
        "placeholder": "<my-dog>",
        "init_word": "dog",
        "steps": 4,
        "batch_size": 2,
        "resolution": 64,
    }
    return TextualInversionConfig(**settings | changes)


def ci(**changes):
    settings = {"placeholder": "<me>", "steps": 4, "batch_size": 2, "resolution": 64}
    return CrossInitConfig(**settings | changes)


@torch.inference_mode()
def test_learns_something(tiny, pictures):
    for config in (ti(), ci(), ci(class_word="dog", init_from="class word")):
        learned = learn(config, tiny.model, tiny.clip, tiny.vae, pictures)
        print(learned.losses)
        assert len(learned.losses["loss"]) == 4
