"""Conditionings while the host samples, caught in the act."""

import pytest
import torch
from personalize.host.conditionings import acts_at, batch_parts, parts_with

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


class Seen:
    """What a MODEL's evaluations and passes are told."""

    def __init__(self, model):
        self.conds, self.options, self.rows = [], [], []
        self.model = model.clone()
        self.model.add_wrapper_with_key("calc_cond_batch", "test", self.evaluation)
        self.model.add_wrapper_with_key("apply_model", "test", self.unet_pass)

    def evaluation(self, executor, model, conds, x, timestep, model_options):
        self.conds.append(conds)
        self.at = model, timestep
        return executor(model, conds, x, timestep, model_options)

    def unet_pass(self, executor, x, t, c_concat, c_crossattn, control, options, **more):
        self.options.append(options)
        self.rows.append(c_crossattn)
        return executor(x, t, c_concat, c_crossattn, control, options, **more)


@torch.inference_mode()
def sampled(tiny, positive, negative):
    from nodes import KSampler

    seen = Seen(tiny.model)
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    KSampler().sample(seen.model, 3, 1, 3.0, "euler", "normal", positive, negative, latent, 1.0)
    return seen


def marked(clip, text, mark=None):
    from nodes import CLIPTextEncode

    ((rows, extra),) = CLIPTextEncode().encode(clip, text)[0]
    return [[rows, extra | ({"mark": mark} if mark else {})]]


def marks_by_row(seen):
    """What the parts of the batch are marked with, in the order of its rows."""
    parts = dict(parts_with(seen.conds[0], "mark"))
    (options,) = seen.options
    return [parts.get(part) for part in batch_parts(options)]


def test_a_key_of_ours_is_found_for_the_rows_it_came_with(tiny):
    positive = marked(tiny.clip, "a dog", "dog") + marked(tiny.clip, "a cat")
    negative = marked(tiny.clip, "grey", "grey")
    seen = sampled(tiny, positive, negative)
    texts = {"dog": positive[0][0], None: positive[1][0], "grey": negative[0][0]}
    for mark, rows in zip(marks_by_row(seen), seen.rows[0], strict=True):
        assert torch.allclose(rows, texts[mark][0].to(rows), atol=1e-3)


def test_of_what_the_host_adds_for_areas_the_text_decides(tiny):
    """To an area of the positive list the host adds one to the negative, with the keys of that."""
    from nodes import ConditioningSetArea

    area = ConditioningSetArea().append(marked(tiny.clip, "a dog", "dog"), 32, 64, 0, 0, 1.0)[0]
    seen = sampled(tiny, area + marked(tiny.clip, "a cat", "cat"), marked(tiny.clip, "", "empty"))
    parts = dict(parts_with(seen.conds[0], "mark"))
    assert {mark for (which, _), mark in parts.items() if which == 1} == {"empty"}
    assert {mark for (which, _), mark in parts.items() if which == 0} == {"dog", "cat"}


@pytest.mark.parametrize(
    ("start", "end", "acts"), [(0, 1, True), (0, 0.5, True), (0.5, 1, False), (0.2, 0.3, False)]
)
def test_the_first_step_is_the_start_of_sampling(tiny_sd1, start, end, acts):
    seen = sampled(tiny_sd1, marked(tiny_sd1.clip, "a dog"), marked(tiny_sd1.clip, ""))
    assert acts_at(*seen.at, start, end) is acts
