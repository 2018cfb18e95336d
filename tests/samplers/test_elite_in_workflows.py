"""ELITE in what users build around it, each against the plain implementation; and other packs'
patches of the same cross attentions."""

from dataclasses import dataclass, field

import pytest
import torch
from personalize.samplers.apply import apply_concept
from personalize.samplers.local_attention import Details
from personalize.tests.devices import device
from personalize.tests.elite_models import random_encoder, random_weights
from personalize.tests.elite_sampling import (
    EVERYTHING,
    PROMPT,
    Local,
    as_words,
    conditioning,
    distance,
    drawn,
    elite_concept,
    latents,
    plain_model,
    rows_of,
    sample,
)
from personalize.tests.stock import LONG

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def encoder(tiny_sd1):
    return random_encoder(tiny_sd1)


@pytest.fixture(scope="module")
def concept(encoder):
    return elite_concept(encoder)


# --- against the plain implementation ---------------------------------------------------------


@dataclass(frozen=True)
class Workflow:
    """What is sampled; built twice, with our CLIP and with the one of the plain implementation."""

    positive: list
    negative: list
    settings: dict = field(default_factory=dict)  # of sample()


def of_prompt(prompt, **settings):
    return lambda encode: Workflow(encode(prompt), encode(""), settings)


def hires_fix(encode):
    latent = torch.nn.functional.interpolate(latents(1, 8, seed=3), scale_factor=1.5)
    more = {"noise": latents(1, 12), "latent": latent, "denoise": 0.5}
    return Workflow(encode(PROMPT), encode(""), more)


def combined(encode):
    from nodes import ConditioningCombine

    (both,) = ConditioningCombine().combine(encode(LONG), encode(PROMPT))
    (three,) = ConditioningCombine().combine(both, encode("<rex> and <rex>, asleep"))
    return Workflow(three, encode("a cat"))


def in_areas(encode):
    from nodes import ConditioningSetArea, ConditioningSetAreaStrength

    (left,) = ConditioningSetArea().append(encode(PROMPT), 32, 64, 0, 0, 1.0)
    (right,) = ConditioningSetArea().append(encode("a <rex>"), 32, 64, 32, 0, 0.7)
    (left,) = ConditioningSetAreaStrength().append(left, 1.3)
    return Workflow(left + right + encode("grass"), encode(""))


def in_areas_of_the_negative(encode):
    from nodes import ConditioningSetArea

    (top,) = ConditioningSetArea().append(encode("a dog"), 64, 32, 0, 0, 1.0)
    return Workflow(encode(PROMPT), top + encode(""))


def in_masks(encode):
    from nodes import ConditioningSetMask

    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    parts = []
    for prompt, where, kind in ((PROMPT, mask, "default"), ("a dog", 1 - mask, "mask bounds")):
        parts += ConditioningSetMask().append(encode(prompt), where, kind, 1.0)[0]
    return Workflow(parts, encode(""))


def in_time(encode):
    from nodes import ConditioningSetTimestepRange

    (early,) = ConditioningSetTimestepRange().set_range(encode("a dog"), 0.0, 0.5)
    (late,) = ConditioningSetTimestepRange().set_range(encode(PROMPT), 0.5, 1.0)
    return Workflow(early + late, encode(""))


def with_controlnet(encode):
    from nodes import ControlNetApplyAdvanced

    hint = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    conds = ControlNetApplyAdvanced().apply_controlnet(
        encode(PROMPT), encode(""), tiny_controlnet(), hint, 0.5, 0.0, 1.0
    )
    return Workflow(*conds)


def tiny_controlnet():
    """Of random weights, shaped like the encoder half of tiny_sd1."""
    from comfy import cldm, controlnet
    from personalize.tests.host_models.checkpoints import UNET_SHAPE

    shape = {k: v for k, v in UNET_SHAPE.items() if k not in ("out_channels", "dtype")}
    shape |= {"model_channels": 32, "context_dim": 64, "num_heads": 4, "hint_channels": 3}
    network = cldm.cldm.ControlNet(**shape)
    shapes = {key: weight.shape for key, weight in network.state_dict().items()}
    network.load_state_dict(random_weights(shapes, 0, gain=0.5))
    return controlnet.ControlNet(network.eval(), load_device=device())


WORKFLOWS = {
    "as in the examples": of_prompt(PROMPT),
    "cfg 1": of_prompt(PROMPT, cfg=1.0),
    "batch": of_prompt(PROMPT, noise=latents(3)),
    "not square": of_prompt(PROMPT, noise=latents(1, 8, 12)),
    "weights": of_prompt("(a <rex>:0.7) with (<rex>:1.4)"),
    "long prompt": of_prompt(LONG + "(<rex>:1.2), " + LONG),
    "hires fix": hires_fix,
    "several conditionings": combined,
    "areas": in_areas,
    "areas of the negative": in_areas_of_the_negative,
    "masks": in_masks,
    "a part of the time": in_time,
    "ControlNet": with_controlnet,
}


@pytest.mark.parametrize("name", WORKFLOWS)
@torch.inference_mode()
def test_equals_the_plain_implementation(tiny_sd1, encoder, concept, name):
    words = apply_concept(tiny_sd1.model, tiny_sd1.clip, as_words(concept))[1]
    local, mentions = encoder.local_stage.projections, []

    def plainly(prompt):
        cond = conditioning(words, prompt)
        if rows := rows_of(words, prompt, concept.words[""]):
            mentions.append((cond[0][0], [Local(rows, concept.tensors["local"], local, 0.8)]))
        return cond

    plain = WORKFLOWS[name](plainly)
    assert mentions
    model = plain_model(tiny_sd1, encoder.global_stage.projections, mentions)
    expected = sample(model, plain.positive, plain.negative, **plain.settings)

    def ours(details):
        model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, 1.0, details=details)
        built = WORKFLOWS[name](lambda prompt: conditioning(clip, prompt))
        return sample(model, built.positive, built.negative, **built.settings)

    assert distance(ours(EVERYTHING), expected) < 1e-5
    assert distance(ours(Details(0)), expected) > 1e-4


# --- beside other packs -----------------------------------------------------------------------


class Chained:
    """The way of IPAdapter, InstantID and PuLID: one object a block; the next one is added to it,
    whoever put it there."""

    def __init__(self, callback):
        self.callbacks = [callback]

    def add(self, callback):
        self.callbacks.append(callback)

    def __call__(self, q, k, v, extra_options):
        from comfy.ldm.modules.attention import optimized_attention

        out = optimized_attention(q, k, v, extra_options["n_heads"])
        return out + sum(callback(out) for callback in self.callbacks)


def set_chained(model, place):
    patches = model.model_options["transformer_options"].setdefault("patches_replace", {})
    there = patches.setdefault("attn2", {})
    if place in there:
        there[place].add(lambda out: 0.5 * out)
    else:
        there[place] = Chained(lambda out: 0.5 * out)


def set_alone(model, place):
    """The host's own way: the last one wins."""
    model.set_model_attn2_replace(Chained(lambda out: -0.5 * out), *place)


@pytest.mark.parametrize("place", [("input", 1, 0), ("input", 1), ("middle", 0)])
@pytest.mark.parametrize("patch", [set_chained, set_alone])
def test_anothers_patch_of_the_same_block_acts_before_and_after(tiny_sd1, concept, patch, place):
    theirs = tiny_sd1.model.clone()
    patch(theirs, place)
    after_theirs, clip = apply_concept(theirs, tiny_sd1.clip, concept)
    before_theirs, _ = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    patch(before_theirs, place)
    positive, negative = conditioning(clip, PROMPT), conditioning(clip, "")
    first, second = (sample(m, positive, negative) for m in (after_theirs, before_theirs))
    assert torch.equal(first, second)
    assert distance(first, drawn(tiny_sd1, concept)) > 1e-3  # theirs acts
    bare, _ = apply_concept(theirs, tiny_sd1.clip, concept, 1.0, details=Details(0))
    assert distance(first, sample(bare, positive, negative)) > 1e-3  # ours acts


def test_a_patch_in_a_hook_of_one_conditioning_acts_too(tiny_sd1, concept):
    from comfy.hooks import HookGroup, TransformerOptionsHook

    patches = {"attn2": {("middle", 0): Chained(lambda out: 0.5 * out)}}
    hooks = HookGroup()
    hooks.add(TransformerOptionsHook({"patches_replace": patches}))
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    ((cond, extra),) = conditioning(clip, PROMPT)
    positive, negative = [[cond, {**extra, "hooks": hooks}]], conditioning(clip, "")
    hooked = sample(model, positive, negative)
    assert distance(hooked, drawn(tiny_sd1, concept)) > 1e-3  # theirs acts
    bare, _ = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, 1.0, details=Details(0))
    assert distance(hooked, sample(bare, positive, negative)) > 1e-3  # ours acts
