"""A step on a device never waits for it: losses, gradients and what they are made of stay there."""

from unittest import mock

import pytest
import torch
from personalize.host.backbone import Backbone
from personalize.tests.conftest import load_tiny
from personalize.tests.no_waiting import Waited, no_waiting
from personalize.tests.played_device import PLAYED, Played, host_with, played_device
from personalize.tests.trainers import TRAINERS, run_trainer
from personalize.training.loop import Training
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

pytestmark = pytest.mark.host


def test_what_waits_is_noticed():
    with played_device() as device:
        there, here = torch.ones(2, device=device), torch.ones(2)
        for wait in (
            lambda: there.sum().item(),
            lambda: there.tolist(),
            lambda: there.cpu(),
            lambda: bool(there.any()),
            lambda: torch.zeros(2),
            lambda: there[[0]],
            lambda: there + here.to(device),
            lambda: torch.randn_like(there),
            lambda: there + torch.tensor([1.0, 2.0], device=device),
        ):
            with pytest.raises(Waited), no_waiting():
                wait()
        with no_waiting():
            assert (there + 1).device == device


@pytest.fixture
def watched(monkeypatch):
    """Lets no step wait while its losses and gradients are computed; counts them."""
    steps = []
    differentiate = Training._differentiated

    def without_waiting(self, batch, share):
        steps.append(self.step)
        with no_waiting():
            return differentiate(self, batch, share)

    monkeypatch.setattr(Training, "_differentiated", without_waiting)
    return steps


@pytest.mark.parametrize("trainer", TRAINERS)
def test_losses_and_gradients_wait_for_nothing(tiny_sd1, trainer, watched):
    with played_device() as device, host_with(device):
        run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1"), steps=2)
    assert watched == [0, 1] and device == PLAYED


@pytest.mark.parametrize("trainer", ["cross initialization", "detex"])
def test_nor_do_those_of_sdxl_at_a_rank(tiny_sdxl, trainer, watched):
    with played_device() as device, host_with(device):
        tiny = load_tiny(tiny_sdxl.path, "sdxl")
        backbone = Backbone(tiny.model, tiny.clip)
        with backbone.session((1, 4, 8, 8)), torch.no_grad():
            # what the size of a picture means to the UNet is encoded once, not in a step
            zeros = torch.zeros(1, 4, 8, 8, device=device)
            prompt = backbone.text.encode(backbone.text.prompts([""]))
            t = torch.zeros(1, dtype=torch.long, device=device)
            backbone.denoiser.predict(zeros, zeros, t, prompt)
        run_trainer(trainer, tiny, steps=2)
    assert watched == [0, 1]


class Readings(TorchDispatchMode):
    """Counts how often something is read from the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = any(isinstance(t, Played) for t in tree_flatten((args, kwargs))[0])
        made = [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
        number = func.name() == "aten::_local_scalar_dense"
        self.count += given and (number or any(not isinstance(t, Played) for t in made))
        return result


@pytest.mark.parametrize("trainer", ["textual inversion", "custom diffusion", "elite local"])
def test_a_step_reads_once_from_the_device(tiny_sd1, trainer, monkeypatch):
    """Its losses, and whether gradients of fp16 overflowed, also while it descends."""
    counts = []
    averaged, descend_step = Training._averaged, Training._draw_and_descend

    def step(self):
        readings, lists = Readings(), []
        tolist = Played.tolist

        def counted(tensor):
            lists.append(tensor.shape)
            return tolist(tensor)

        def then_counted(self):
            found = averaged(self)  # what is drawn may be encoded first, by other models
            readings.__enter__()
            return found

        with (
            mock.patch.object(Played, "tolist", counted),
            mock.patch.object(Training, "_averaged", then_counted),
        ):
            try:
                descend_step(self)
            finally:
                readings.__exit__(None, None, None)
        counts.append((readings.count, len(lists)))

    monkeypatch.setattr(Training, "_draw_and_descend", step)
    with played_device() as device, host_with(device):
        tiny = load_tiny(tiny_sd1.path, "sd1")
        run_trainer(trainer, tiny, steps=2, precision="fp16")
    assert counts == [(0, 1), (0, 1)]
