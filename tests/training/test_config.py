"""What tells one training from another, what a base fills in, and what saves memory."""

from dataclasses import replace

import pytest
from personalize.concepts.bases import BASES
from personalize.concepts.errors import TrainingError
from personalize.training.config import check_class_word
from personalize.training.custom_diffusion import CustomDiffusionConfig
from personalize.training.textual_inversion import TextualInversionConfig

pytestmark = pytest.mark.host
CONFIG = TextualInversionConfig(placeholder=" <my-dog> ", init_word="dog")
CUSTOM = CustomDiffusionConfig(placeholder="<my-dog>", class_word="dog")


def test_bookkeeping_tells_no_training_from_another():
    same = replace(CONFIG, steps=7, save_every=0, micro_batch=3)
    assert same.identity() == CONFIG.identity()
    for change in ({"learning_rate": 0.1}, {"flip": False}, {"precision": "fp32"}):
        assert replace(CONFIG, **change).identity() != CONFIG.identity()
    assert CONFIG.placeholder == "<my-dog>"


def test_a_base_fills_in_what_is_left_to_it():
    assert CONFIG.on_base(BASES["sd1"], 512).resolution == 512
    assert replace(CONFIG, resolution=384).on_base(BASES["sd1"], 512).resolution == 384
    ranks = [CUSTOM.on_base(BASES[key], 512).rank for key in ("sd1", "sdxl")]
    assert ranks == [0, 32] and replace(CUSTOM, rank=8).on_base(BASES["sdxl"], 1024).rank == 8


def test_what_saves_memory_is_what_is_left_to_try():
    batch = replace(CONFIG, batch_size=8)
    assert batch.at_once == 8 and "Set micro_batch to 4" in batch.saving_memory
    single = replace(batch, micro_batch=1)
    assert "micro_batch" not in single.saving_memory
    assert "gradient_checkpointing" in single.saving_memory
    assert (
        "gradient_checkpointing" not in replace(single, gradient_checkpointing=True).saving_memory
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "at least 1 step"),
        ({"batch_size": 0}, "1 picture a batch"),
        ({"learning_rate": 0.0}, "learning_rate above 0"),
        ({"resolution": 100}, "that 8 divides, got 100"),
        ({"resolution": 8}, "resolution of at least"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        replace(CONFIG, **changes)


def test_an_empty_word_is_named_by_its_input():
    with pytest.raises(TrainingError, match="The second_class_word is empty"):
        check_class_word(" ", "second_class_word")
