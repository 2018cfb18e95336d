"""The order of an ELITE training's subjects, and what an example of one is made of."""

import operator

import pytest
import torch
from personalize.concepts.errors import TrainingError
from personalize.training.elite import examples as module
from personalize.training.elite.config import EliteConfig
from personalize.training.elite.examples import (
    Examples,
    SubjectPicture,
    Unusable,
    example_generator,
    order,
)

pytestmark = pytest.mark.host


def test_an_epoch_shows_every_subject_once_in_an_order_of_its_own():
    first, again, second = order(0, 0, 50), order(0, 0, 50), order(0, 1, 50)
    assert sorted(first.tolist()) == list(range(50)) == sorted(second.tolist())
    assert torch.equal(first, again)
    assert not torch.equal(first, second) and not torch.equal(first, order(1, 0, 50))


def test_an_example_has_numbers_of_its_own_whatever_came_before():
    def draw(seed, number):
        return torch.rand(4, generator=example_generator(seed, number)).tolist()

    assert draw(0, 7) == draw(0, 7)
    assert len({tuple(draw(*key)) for key in ((0, 7), (0, 8), (1, 7), (7, 0))}) == 4


class Plain:
    """Subjects of one colour each, masked on their left half; some cannot be used."""

    with_masks = True

    def __init__(self, unusable=()):
        self.unusable, self.asked = set(unusable), []

    def __len__(self):
        return 4

    def load(self, index, generator):
        self.asked.append(index)
        if index in self.unusable:
            raise Unusable(f"number {index} is too small")
        mask = torch.zeros(24, 24)
        mask[:, :12] = 1
        return SubjectPicture(torch.full((24, 24, 3), (index + 1) / 8), mask)


SIDE, PATCHES, SIZE = 16, 4, 64


def examples(stage, subjects=None, **changes):
    settings = {"stage": stage, "resolution": SIZE, "templates": "a {}\nthe {} there"} | changes
    return Examples(subjects or Plain(), EliteConfig(**settings), SIDE, PATCHES)


@pytest.mark.parametrize("stage", ["align", "global", "local"])
def test_an_example_is_a_function_of_seed_and_number(stage):
    first, _, again = (examples(stage)(number) for number in (5, 6, 5))
    other = examples(stage, train_seed=1)(5)
    for name, value in vars(first).items():
        same = torch.equal if torch.is_tensor(value) else operator.eq
        assert same(value, getattr(again, name)), name
    assert not torch.equal(first.noise, other.noise) and first.moment != other.moment
    assert first.target.shape == (3, SIZE, SIZE) and first.seen.shape == (3, SIDE, SIDE)
    assert first.visible.shape == (1, SIZE // 8, SIZE // 8)
    assert first.noise.shape == first.sampling.shape == (4, SIZE // 8, SIZE // 8)
    assert not torch.equal(first.noise, first.sampling)
    # a resumed training must find these numbers again
    generator = example_generator(1, 5)
    assert torch.equal(other.noise, torch.randn(other.noise.shape, generator=generator))


def test_noise_does_not_depend_on_what_becomes_of_the_picture():
    drawn = [examples(stage)(3) for stage in ("align", "global", "local")]
    drawn.append(examples("global", Plain(unusable=[drawn[0].index]))(3))
    for one in drawn[1:]:
        assert torch.equal(one.noise, drawn[0].noise) and one.moment == drawn[0].moment


def test_to_align_the_subject_stands_on_white():
    example = examples("align")(0)
    colour = (example.index + 1) / 8
    assert torch.allclose(example.local[:, :, : SIDE // 2 - 2], torch.tensor(colour), atol=1e-2)
    assert torch.allclose(example.local[:, :, SIDE // 2 + 2 :], torch.tensor(1.0), atol=1e-2)
    assert example.mask.numel() == 0 and example.visible.all()
    assert torch.allclose(example.target, torch.full((3, SIZE, SIZE), colour))


def test_a_caption_says_how_the_picture_was_zoomed(monkeypatch):
    def zoomed(picture, size, generator):
        return torch.zeros(3, size, size), torch.zeros(1, size // 8, size // 8), 3

    monkeypatch.setattr(module, "zoomed_picture", zoomed)
    made = [examples("local")(number) for number in range(12)]
    assert {example.caption for example in made} == {6, 7}  # two templates for each zoom
    assert not made[0].visible.any() and not made[0].target.any()
    plain = [examples("local", zoom=False)(number) for number in range(12)]
    assert {example.caption for example in plain} == {0, 1}
    assert all(example.visible.all() for example in plain)


def test_in_the_place_of_an_unusable_subject_comes_the_next_of_the_epoch(caplog):
    places = order(0, 0, 4).tolist()
    made = examples("global", Plain(unusable=[places[1], places[2]]))
    assert [made(number).index for number in range(4)] == [
        places[0], places[3], places[3], places[3],
    ]  # fmt: skip
    assert caplog.text.count("is too small") == 2 and made.unusable == {places[1], places[2]}
    with pytest.raises(TrainingError, match=r"in a row cannot be used\. The last: number"):
        examples("global", Plain(unusable=range(4)))(0)
