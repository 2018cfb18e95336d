"""How gradients become a step: accumulation, clipping, rates and the running average."""

from types import SimpleNamespace

import pytest
import torch
from personalize.training import descent
from personalize.training.config import LoopConfig
from personalize.training.descent import AveragedAdamW, Descent, clipped
from personalize.training.loop import NoStates, Training
from torch._subclasses.fake_tensor import FakeTensorMode

pytestmark = pytest.mark.host

BACKBONE = SimpleNamespace(compute_dtype=torch.float32, device=torch.device("cpu"))


class Fit:
    """A vector fitted to rows of data; the loss is a mean over the rows of a batch."""

    def __init__(self):
        self.vector = torch.zeros(3, requires_grad=True)

    @property
    def parameters(self):
        return {"vector": self.vector}

    def loss(self, backbone, rows):
        return {"fit": (rows - self.vector).square().mean()}


ROWS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


def rows_of(size):
    return lambda number, generator: ROWS[number * size : (number + 1) * size]


def fit(size, descent, steps=4):
    config = LoopConfig(steps=steps, batch_size=size, learning_rate=0.1)
    training = Training(Fit(), config, BACKBONE, rows_of(size), descent)
    training.run(NoStates(), lambda report: None)
    return training


def test_accumulated_batches_are_one_large_batch():
    small, large = fit(2, Descent(batches=4)), fit(8, Descent())
    assert torch.allclose(small.learner.vector, large.learner.vector, atol=1e-6)
    assert small.losses["loss"] == pytest.approx(large.losses["loss"])


def test_gradients_are_shortened_together():
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    short = clipped(gradients, 1.0)
    assert torch.cat(short).norm() == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(torch.cat(short) * 5, torch.cat(gradients), atol=1e-4)
    assert all(map(torch.equal, clipped(gradients, 10.0), gradients))
    assert clipped(gradients, None) is gradients


def halfway_and_on(steps):
    """A training that went on from the state of another one's half."""
    first = fit(2, Descent(average=0.9), steps // 2)
    config = LoopConfig(steps=steps, batch_size=2, learning_rate=0.1)
    second = Training(Fit(), config, BACKBONE, rows_of(2), Descent(average=0.9))
    second.restore(first.state())
    second.run(NoStates(), lambda report: None)
    return second


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_in_one_kernel_descends_and_resumes_alike(fused, monkeypatch):
    several = fit(2, Descent(average=0.9))
    if fused:  # which the CPU can, too
        monkeypatch.setattr(descent, "fused_options", lambda groups: {"fused": True})
    whole, resumed = fit(2, Descent(average=0.9)), halfway_and_on(4)
    assert bool(whole.optimizer.defaults["fused"]) == fused
    assert torch.equal(whole.learner.vector, resumed.learner.vector)
    states = [t.optimizer.state[t.learner.vector] for t in (whole, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.allclose(whole.learner.vector, several.learner.vector, rtol=1e-5)
    assert fused or torch.equal(whole.learner.vector, several.learner.vector)


@pytest.mark.parametrize(
    ("devices", "fused"),
    [(["cpu"], False), (["cuda"], True), (["cuda", "cuda"], True), (["cuda", "cpu"], False)],
)
def test_one_kernel_only_where_all_is_on_a_gpu(devices, fused):
    with FakeTensorMode():  # tensors of a GPU that is not there
        parameters = [torch.empty(3, device=name, requires_grad=True) for name in devices]
        optimizer = AveragedAdamW([{"params": parameters, "share": 1.0}], 0.0)
    assert bool(optimizer.defaults["fused"]) == fused


def test_the_rate_follows_the_step():
    once = fit(2, Descent(rate=lambda step: 1.0 if step == 0 else 0.0))
    assert torch.equal(once.learner.vector, fit(2, Descent(), steps=1).learner.vector)


def test_the_average_lags_behind_and_survives_a_resume():
    descent = Descent(average=0.5)
    whole = fit(2, descent)
    vector = whole.learner.vector
    average = whole.optimizer.average_of(vector)
    assert 0 < average.norm() < vector.norm()
    config = LoopConfig(steps=4, batch_size=2, learning_rate=0.1)
    resumed = Training(Fit(), config, BACKBONE, rows_of(2), descent)
    resumed.restore(fit(2, descent, steps=2).state())
    resumed.run(NoStates(), lambda report: None)
    assert torch.equal(resumed.learner.vector, vector)
    assert torch.equal(resumed.optimizer.average_of(resumed.learner.vector), average)
    without = fit(2, Descent())
    assert without.optimizer.average_of(without.learner.vector) is without.learner.vector
