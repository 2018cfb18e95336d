"""A batch in parts learns what the whole batch does."""

from dataclasses import dataclass

import pytest
import torch
from personalize.concepts.errors import TrainingError
from personalize.tests.trainers import TRAINERS, run_trainer
from personalize.training.batch import Batch, parts_of
from personalize.training.loop import Training
from personalize.training.textual_inversion import TextualInversionConfig

pytestmark = pytest.mark.host


@pytest.fixture
def descents(monkeypatch):
    """What each step has descended by: the gradients."""
    seen = []
    descend = Training._descend

    def noted(self, gradients):
        seen.append(dict(zip(self.learner.parameters, gradients, strict=True)))
        descend(self, gradients)

    monkeypatch.setattr(Training, "_descend", noted)
    return seen


@pytest.mark.parametrize("trainer", TRAINERS)
def test_gradients_and_losses_of_parts_are_those_of_the_batch(tiny_sd1, trainer, descents):
    """5 pictures, also in parts of 3 and 2."""
    one = {"steps": 1, "batch_size": 5, "precision": "fp32"}
    losses = [run_trainer(trainer, tiny_sd1, **one, micro_batch=size).losses for size in (0, 1, 3)]
    whole, *others = descents
    assert any(gradient.any() for gradient in whole.values())
    for parts, terms in zip(others, losses[1:], strict=True):
        for name, gradient in whole.items():
            assert (parts[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-9, name
        for name, values in losses[0].items():
            assert terms[name] == pytest.approx(values, rel=1e-5), name


@pytest.mark.parametrize("trainer", ["textual inversion", "detex", "elite local"])
def test_as_many_pictures_as_asked_for_go_through_the_unet_at_once(tiny_sd1, trainer):
    sizes = []

    def note(module, inputs):
        sizes.append(len(inputs[0]))

    unet = tiny_sd1.model.model.diffusion_model
    handle = unet.register_forward_pre_hook(note)
    try:
        run_trainer(trainer, tiny_sd1, steps=1, batch_size=5, micro_batch=2)
    finally:
        handle.remove()
    parts = [2 * n if trainer == "detex" else n for n in (1, 2, 2)]  # with pictures of the class
    assert sizes[-3:] == parts


def test_parts_are_as_equal_as_can_be():
    rows = torch.arange(7)
    batch = Batch(x0=rows[:, None], noise=rows[:, None], t=rows, index=rows, prompt=rows)
    parts = parts_of(batch, 3)
    assert [part.t.tolist() for part, _ in parts] == [[0, 1], [2, 3], [4, 5, 6]]
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert all(part.mirrored is None for part, _ in parts)
    for size in (0, 7, 9):
        assert parts_of(batch, size) == [(batch, 1.0)]


@dataclass(frozen=True)
class Compared:
    """A batch whose rows are compared with each other."""

    rows: torch.Tensor


def test_what_cannot_be_parted_stays_whole():
    batch = Compared(torch.zeros(4))
    assert parts_of(batch, 1) == [(batch, 1.0)]


def test_a_training_goes_on_with_another_micro_batch(tiny_sd1, tmp_path):
    """It decides how much memory is needed, not what is learned."""

    def stop(report):
        if report.step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run_trainer("textual inversion", tiny_sd1, stop, tmp_path)
    steps = []
    note = lambda report: steps.append(report.step)  # noqa: E731
    run_trainer("textual inversion", tiny_sd1, note, tmp_path, True, micro_batch=1)
    assert steps == [3]


def test_a_negative_micro_batch_is_refused():
    with pytest.raises(TrainingError, match="micro_batch of 1 or more, got -1"):
        TextualInversionConfig(placeholder="<x>", init_word="dog", micro_batch=-1)
