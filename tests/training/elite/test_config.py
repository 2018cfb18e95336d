"""Numbers of an ELITE training: batches over processes, rates over steps, what tells trainings."""

import pytest
from personalize.concepts.errors import TrainingError
from personalize.training.elite.captions import captions
from personalize.training.elite.config import PROGRAM, EliteConfig, TrainingStage
from personalize.training.zoom import ZOOMS

pytestmark = pytest.mark.host


def test_the_rate_rises_from_the_first_step_and_falls_to_the_last():
    warm = EliteConfig(warmup=4, steps=10)
    assert [warm.rate(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    falling = EliteConfig(cosine=True, steps=10)
    assert [falling.rate(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])
    both = EliteConfig(warmup=4, cosine=True, steps=10)
    assert both.rate(1) == pytest.approx(0.5 * falling.rate(1))
    assert EliteConfig().rate(3) == 1.0


@pytest.mark.parametrize(("micro_batch", "at_once"), [(0, 4), (3, 3), (6, 4)])
def test_what_goes_at_once_is_of_one_accumulated_batch(micro_batch, at_once):
    config = EliteConfig(batch_size=8, accumulation=2, micro_batch=micro_batch)
    assert config.at_once == at_once
    assert config.process_batch_size(2) == 2
    with pytest.raises(TrainingError, match="8 pictures cannot be shared by 3 processes"):
        config.process_batch_size(3)


def test_how_a_batch_is_split_tells_no_training_from_another():
    one, other = EliteConfig(accumulation=1, steps=9), EliteConfig(accumulation=2, steps=10)
    assert one.identity() == other.identity()
    falling = [EliteConfig(cosine=True, steps=n).identity() for n in (9, 10)]
    assert falling[0] != falling[1]  # the last step decides every rate


@pytest.mark.parametrize("stage", TrainingStage)
def test_rate_and_batch_are_the_programs_unless_they_are_given(stage):
    published = PROGRAM[stage]
    plain, small = EliteConfig(stage=stage), EliteConfig(stage=stage, batch_size=2)
    assert (plain.batch_size, plain.learning_rate) == (published.batch_size, published.effective)
    assert small.learning_rate == 2 * published.rate
    assert EliteConfig(stage=stage, learning_rate=0.5).learning_rate == 0.5


def test_prompts_are_all_templates_for_one_zoom_after_another():
    """`Examples` counts them so."""
    config = EliteConfig(stage="local", templates="a {}\nthe {} there")
    texts = ["".join(str(piece) for piece in prompt) for prompt in captions(config, 1)]
    assert texts[:2] == ["a range(0, 1)", "the range(0, 1) there"]
    assert texts[2:4] == [f"{ZOOMS[1]} range(0, 1)", f"{ZOOMS[1]} range(0, 1) there"]
    assert len(texts) == 2 * len(ZOOMS)
    for other in ({"zoom": False}, {"stage": "global"}, {"stage": "align"}):
        plain = EliteConfig(**{"stage": "local", "templates": config.templates} | other)
        assert captions(plain, 1) == captions(config, 1)[:2]
