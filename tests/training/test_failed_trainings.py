"""After a training that failed, wherever it did, the models are as before and learn as before."""

from functools import cache

import pytest
import torch
from personalize.host.autograd import is_hybrid
from personalize.tests.conftest import load_tiny
from personalize.tests.moving_host import sampled, weights_of
from personalize.tests.trainers import TRAINERS, TRAINERS_AND_KINDS, run_trainer

pytestmark = pytest.mark.host


class Failure(Exception):
    """What goes wrong in these tests."""


def fail(*args, **kwargs):
    raise Failure


def failing_after(calls, function):
    """The function, which fails after so many calls."""
    done = []

    def run(*args, **kwargs):
        if len(done) == calls:
            raise Failure
        done.append(function(*args, **kwargs))
        return done[-1]

    return run


def loading(patch, which):
    """The session's load of a number fails when the host has moved everything."""
    from comfy import model_management

    load, sessions = model_management.load_models_gpu, []

    def load_and_fail(models, *args, **kwargs):
        load(models, *args, **kwargs)
        sessions.append(len(models) == 2)  # only a session loads two models
        if sum(sessions) == which and sessions[-1]:
            raise Failure

    patch.setattr(model_management, "load_models_gpu", load_and_fail)


def preview(tiny, then):
    def on_step(report):
        if report.step == 2:
            with report.backbone.paused():
                patched = tiny.model.clone()
                key = "diffusion_model.out.2.weight"
                patched.add_patches({key: ("diff", (torch.ones(4, 32, 3, 3),))})
                sampled(tiny, patched)
                then()

    return on_step


def at_loading(tiny, patch):
    loading(patch, 1)


def at_the_first_step(tiny, patch):
    patch.setattr(torch.autograd, "grad", fail)


def in_the_middle(tiny, patch):
    patch.setattr(torch.autograd, "grad", failing_after(2, torch.autograd.grad))


def in_a_callback(tiny, patch):
    return lambda report: fail() if report.step == 2 else None


def in_a_preview(tiny, patch):
    return preview(tiny, fail)


def when_loading_after_a_preview(tiny, patch):
    return preview(tiny, lambda: loading(patch, 1))


def when_saving(tiny, patch):
    from personalize.training import states

    patch.setattr(states, "write_tensors", fail)


POINTS = {
    point.__name__: point
    for point in (
        at_loading,
        at_the_first_step,
        in_the_middle,
        in_a_callback,
        in_a_preview,
        when_loading_after_a_preview,
        when_saving,
    )
}


@cache
def expected(trainer, path, kind="sd1"):
    return run_trainer(trainer, load_tiny(path, kind))


def own_forwards(tiny):
    modules = (tiny.model.model, tiny.clip.cond_stage_model, tiny.vae.first_stage_model)
    parts = [part for module in modules for part in module.modules()]
    return [part for part in parts if "forward" in vars(part) or part._forward_hooks]


@pytest.mark.parametrize(("trainer", "kind"), TRAINERS_AND_KINDS)
def test_a_failed_training_leaves_the_models_as_they_were(
    moves, monkeypatch, tmp_path, trainer, kind, request
):
    path = request.getfixturevalue(f"tiny_{kind}").path
    tiny = load_tiny(path, kind)
    before, forwards = sampled(tiny), own_forwards(tiny)
    for name, point in POINTS.items():
        with monkeypatch.context() as patch:
            on_step = point(tiny, patch) or (lambda report: None)
            with pytest.raises(Failure):
                run_trainer(trainer, tiny, on_step, tmp_path / name, save_every=1)
        assert not any(is_hybrid(weight) for weight in weights_of(tiny)), name
        assert own_forwards(tiny) == forwards, name
        assert torch.equal(sampled(tiny), before), name
    assert run_trainer(trainer, tiny).equals(expected(trainer, path, kind))


@pytest.mark.parametrize("trainer", ["textual inversion", "elite local"])
@pytest.mark.parametrize("point", POINTS)
def test_the_training_after_a_failed_one_resumes_or_starts_anew(
    fresh_sd1, moves, monkeypatch, tmp_path, trainer, point
):
    with monkeypatch.context() as patch:
        on_step = POINTS[point](fresh_sd1, patch) or (lambda report: None)
        with pytest.raises(Failure):
            run_trainer(trainer, fresh_sd1, on_step, tmp_path, save_every=1)
    again = run_trainer(trainer, fresh_sd1, lambda report: None, tmp_path, True, save_every=1)
    assert again.equals(expected(trainer, fresh_sd1.path))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_cancelled_training_changes_nothing_and_resumes_bit_equal(
    monkeypatch, tmp_path, trainer, kind, request
):
    tiny = request.getfixturevalue(f"tiny_{kind}")
    before, forwards = sampled(tiny), own_forwards(tiny)
    with pytest.raises(Failure):
        run_trainer(trainer, tiny, in_a_callback(tiny, monkeypatch), tmp_path)
    assert torch.equal(sampled(tiny), before) and own_forwards(tiny) == forwards
    steps = []
    resumed = run_trainer(trainer, tiny, lambda r: steps.append(r.step), tmp_path, True)
    assert steps == [3]
    assert resumed.equals(expected(trainer, tiny.path, kind))
