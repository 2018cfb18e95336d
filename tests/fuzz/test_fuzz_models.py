"""Trainings that end at any moment: the models stay as they were, and going on loses nothing."""

import random
import shutil

import pytest
import torch
from personalize.tests.moving_host import weights_of
from personalize.tests.trainers import TRAINERS, run_trainer

pytestmark = [pytest.mark.host, pytest.mark.slow]

STEPS = 5


class Cancelled(Exception):
    """What the host raises when the user cancels, wherever it does."""


def test_cancels(campaign, tiny_sd1, tmp_path, monkeypatch):
    """Cancelled between steps or within one: MODEL, CLIP and VAE bit-equal, then resumed to the
    result of an uninterrupted training, bit for bit."""
    whole = {}
    kept = [weight.detach().clone() for weight in weights_of(tiny_sd1)]

    def check_models() -> None:
        weights = weights_of(tiny_sd1)
        assert len(weights) == len(kept)
        for weight, before in zip(weights, kept, strict=True):
            # what a file lacks is uninitialised memory in the host, so NaN must equal NaN
            assert torch.equal(weight.detach().nan_to_num(), before.nan_to_num())

    def try_one(rng: random.Random) -> None:
        # the stage align writes the projection of the text encoder that it is tested with
        name = rng.choice([trainer for trainer in TRAINERS if trainer != "elite align"])
        settings = {"steps": STEPS, "save_every": rng.choice([0, 1, 2, 3])}
        if name not in whole:
            whole[name] = run_trainer(name, tiny_sd1, **settings)
        states = tmp_path / "states"
        shutil.rmtree(states, ignore_errors=True)
        for _ in range(rng.choice([1, 1, 2])):
            try:
                with monkeypatch.context() as patch:
                    on_step = interrupted(rng, patch)
                    run_trainer(name, tiny_sd1, on_step, states, True, **settings)
            except Cancelled:
                pass
            check_models()
        resumed = run_trainer(name, tiny_sd1, lambda report: None, states, True, **settings)
        assert resumed.equals(whole[name]), f"{name} resumed to another result"
        check_models()

    campaign.run("cancels", try_one, share=1.5).check()


def interrupted(rng: random.Random, patch: pytest.MonkeyPatch):
    """A callback that cancels after a step, or one that does nothing while a gradient cancels."""
    at = rng.randrange(1, STEPS + 1)

    def cancel(report):
        if report.step == at:
            raise Cancelled

    if rng.random() < 0.5:
        return cancel
    real, calls = torch.autograd.grad, [0]

    def grad(*args, **options):
        calls[0] += 1
        if calls[0] == at:
            raise Cancelled
        return real(*args, **options)

    patch.setattr(torch.autograd, "grad", grad)
    return lambda report: None
