"""The loop on a vector of three numbers: what a step is made of, and what a state keeps of it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.errors import TrainingError
from personalize.training import loop
from personalize.training.batch import Batch
from personalize.training.config import LoopConfig
from personalize.training.descent import Descent
from personalize.training.loop import NoStates, StopTraining, Training

pytestmark = pytest.mark.host

STATE_BYTES = 3 * 3 * 4  # a vector of three numbers and its two moments


class Fit:
    """A vector fitted to the clean latents of a batch."""

    def __init__(self, fails_at=0):
        self.vector = torch.zeros(3, requires_grad=True)
        self.calls, self.fails_at = 0, fails_at

    @property
    def parameters(self):
        return {"vector": self.vector}

    def loss(self, backbone, batch):
        self.calls += 1
        if self.calls == self.fails_at:
            raise InterruptedError
        apart = (batch.x0 - self.vector).square()
        return {"near": apart.mean(), "far": 2 * apart.mean()}


class Kept:
    """States in a list."""

    def __init__(self, states=()):
        self.states = list(states)

    def latest(self, up_to, check):
        return self.states[-1] if self.states else None

    def save(self, state):
        self.states.append(state)

    def steps(self):
        return [state.step for state in self.states]


def drawn(number, generator, size=5):
    """As large as the number says, and random."""
    x0 = number + torch.randn(size, 3, generator=generator)
    rows = torch.arange(size)
    return Batch(x0=x0, noise=x0, t=rows, index=rows, prompt=rows)


def training(learner=None, draw=drawn, dtype=torch.float32, descent=None, **changes):
    backbone = SimpleNamespace(
        compute_dtype=dtype, device=torch.device("cpu"), before_moving=lambda do: None
    )
    config = LoopConfig(**{"steps": 4, "batch_size": 5, "learning_rate": 0.1} | changes)
    return Training(learner or Fit(), config, backbone, draw, descent or Descent())


def run(made, states=None, on_step=lambda report: None):
    made.run(states or NoStates(), on_step)
    return made


def test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole():
    whole, parts = run(training()), run(training(micro_batch=2))
    assert parts.learner.calls == 3 * whole.learner.calls
    assert parts.losses.keys() == {"loss", "near", "far"}
    for name, losses in whole.losses.items():
        assert parts.losses[name] == pytest.approx(losses), name
    gradients = []
    for size in (0, 2):
        one = training(micro_batch=size)
        gradients.append(one._averaged()[2][0])
    assert torch.allclose(*gradients)


def test_the_loss_is_the_sum_of_its_terms_over_the_accumulated_batches():
    made = training(descent=Descent(batches=2))
    numbers, batches = [], []

    def draw(number, generator):
        numbers.append(number)
        batches.append(drawn(number, generator))
        return batches[-1]

    made.draw = draw
    _, values, (gradient,) = made._averaged()
    apart = torch.stack([batch.x0 for batch in batches])
    near = apart.square().mean().item()
    assert values.tolist() == pytest.approx([3 * near, near, 2 * near])
    assert torch.allclose(gradient, -3 * 2 * apart.mean(dim=(0, 1)) / 3)
    made.step = 5
    made._averaged()
    assert numbers == [0, 1, 10, 11]


def test_an_interrupted_step_gives_its_random_numbers_back():
    whole, kept = run(training()), Kept()
    stopped = training(Fit(fails_at=3))
    with pytest.raises(InterruptedError):
        run(stopped, kept)
    assert kept.steps() == [2]
    resumed = training()
    resumed.resume(kept)
    run(resumed)
    assert torch.equal(resumed.learner.vector, whole.learner.vector)
    assert resumed.losses == whole.losses
    run(stopped)  # the very training that was interrupted goes on, too
    assert torch.equal(stopped.learner.vector, whole.learner.vector)


def test_a_state_is_a_copy():
    made = run(training(steps=2))
    state = made.state()
    before = {name: tensor.clone() for name, tensor in state.parameters.items()}
    made.config = replace(made.config, steps=3)
    run(made)
    assert torch.equal(state.parameters["vector"], before["vector"])
    assert len(state.losses["loss"]) == 2 and state.step == 2
    fresh = training()
    vector = fresh.learner.vector
    fresh.restore(replace(state, loss_scale=256.0))
    assert fresh.learner.vector is vector and fresh.scale.value == 256.0
    run(fresh)
    assert torch.equal(state.parameters["vector"], before["vector"])
    assert len(state.losses["loss"]) == 2


def test_states_are_saved_as_often_as_asked_and_once_in_the_end():
    kept = Kept()
    run(training(save_every=2, steps=5), kept)
    assert kept.steps() == [2, 4, 5]
    kept = Kept()
    run(training(save_every=2, steps=4), kept)
    assert kept.steps() == [2, 4]

    def stop(report):
        raise StopTraining

    kept = Kept()
    run(training(save_every=0), kept, stop)
    assert kept.steps() == [1]


@pytest.mark.parametrize(("room", "steps"), [(STATE_BYTES, [1, 2, 3]), (STATE_BYTES - 1, [3])])
def test_a_callback_may_keep_small_states(room, steps, monkeypatch):
    monkeypatch.setattr(loop, "SMALL_STATE", room)
    kept = Kept()
    run(training(steps=3, save_every=0), kept, lambda report: report.keep())
    assert kept.steps() == steps


def test_an_overflow_in_fp16_is_a_step_that_changes_nothing():
    made = training(dtype=torch.float16, draw=lambda number, generator: drawn(1e18, generator))
    made.scale.value = 1e25
    made._one_step()
    assert made.step == 1 and len(made.losses["loss"]) == 1
    assert not made.learner.vector.any() and made.scale.value == 0.5e25


def test_a_loss_of_nan_names_its_term_and_keeps_the_step_before():
    class Broken(Fit):
        def loss(self, backbone, batch):
            terms = super().loss(backbone, batch)
            return terms | {"far": terms["far"] * float("nan" if self.calls == 3 else 1)}

    kept = Kept()
    with pytest.raises(TrainingError, match=r"The loss turned NaN at step 3; .*it is 0\.1"):
        run(training(Broken()), kept)
    assert kept.steps() == [2]


def test_parameters_that_are_no_numbers_are_not_saved():
    def spoil(report):
        report.learner.vector.data[0] = torch.nan
        raise StopTraining

    kept = Kept()
    run(training(), kept, spoil)
    assert kept.steps() == []


WRONG = {
    "another shape": lambda s: replace(s, parameters={"vector": torch.zeros(4)}),
    "another name": lambda s: replace(s, parameters={"word": torch.zeros(3)}),
    "no numbers": lambda s: replace(s, parameters={"vector": torch.full((3,), torch.nan)}),
    "whole numbers": lambda s: replace(s, parameters={"vector": torch.zeros(3, dtype=torch.int)}),
    "moments of another": lambda s: replace(s, moments={"word": s.moments["vector"]}),
    "moments of another shape": lambda s: replace(
        s, moments={"vector": s.moments["vector"] | {"exp_avg": torch.zeros(2)}}
    ),
    "too few losses": lambda s: replace(s, losses={"loss": [0.5]}),
    "too many losses": lambda s: replace(s, losses={"loss": [0.5] * 3}),
    "a scale of 0": lambda s: replace(s, loss_scale=0.0),
    "an infinite scale": lambda s: replace(s, loss_scale=float("inf")),
    "no random numbers": lambda s: replace(s, generator=torch.zeros(3, dtype=torch.uint8)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_state_of_another_training_is_refused(case):
    state = run(training(steps=2)).state()
    training().check(state)
    with pytest.raises(TrainingError, match="does not fit"):
        training().check(WRONG[case](state))


def test_replays_that_overwrite_their_results_learn_the_same(monkeypatch):
    """As a CUDA graph does, whose results lie in one place of memory."""

    def capture(step):
        results = [tensor.clone() for tensor in step()]

        def replay():
            for kept, new in zip(results, step(), strict=True):
                kept.copy_(new)

        return results, replay

    plain = run(training(steps=8, descent=Descent(batches=2)))
    monkeypatch.setattr(loop, "capture_for", lambda backbone: capture)
    replayed = run(training(steps=8, descent=Descent(batches=2)))
    assert torch.equal(plain.learner.vector, replayed.learner.vector)
    assert plain.losses == replayed.losses
