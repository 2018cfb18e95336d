"""ELITE at sampling time, against an implementation that materialises every attention map."""

import types
from dataclasses import replace
from typing import Any

import pytest
import torch
from personalize.concepts.elite import EliteStage
from personalize.concepts.errors import BaseModelError, PersonalizeError
from personalize.host import attention
from personalize.samplers.apply import apply_concept
from personalize.samplers.local_attention import Details, LocalAttention, LocalPart
from personalize.samplers.mentions import MENTIONS
from personalize.tests.elite_models import moved, random_encoder, weights_of
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
    plain_elite,
    plain_model,
    sample,
)
from personalize.tests.stock import LONG, encode

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def encoder(tiny_sd1):
    return random_encoder(tiny_sd1)


@pytest.fixture(scope="module")
def concept(encoder):
    return elite_concept(encoder)


@pytest.fixture(params=["host's", "torch's"])
def kernel(request, monkeypatch):
    """The host's attention on a CPU, and the one on a GPU, which tells the logsumexp."""
    if request.param == "torch's":
        monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("channels", "heads", "queries"), [(320, 8, 64), (640, 8, 48), (1280, 8, 16)]
)
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.2])
@torch.inference_mode()
def test_attention_of_real_shapes(channels, heads, queries, strength):
    generator = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    q, context, features = rand(1, queries, channels), rand(1, 77, 768), rand(256, 768)
    kv, local = ([rand(channels, 768) / 768**0.5 for _ in "kv"] for _ in range(2))
    part = LocalPart(named("<rex>"), features, Details(strength), strength)
    options = {"n_heads": heads, **told(part, ["a"])}
    patch = LocalAttention(part, tuple(local)).wrap(None)
    ours = patch(q, context @ kv[0].T, context @ kv[1].T, options)[0]
    plain = Local([5], features, {"": local}, strength)
    expected = plain_elite(q[0], context[0], heads, kv, [plain])
    assert distance(ours, expected) < 1e-4


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("rows", [{0: (5,), 2: (1, 3)}, {1: (2,), 2: (4,)}, {2: (3, 4, 6)}])
@torch.inference_mode()
def test_several_prompts_of_a_batch_name_several_concepts(rows):
    """Each at its own places, two samples each, two concepts around each other."""
    generator = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    q, context, features = rand(6, 32, 64), rand(6, 77, 48), rand(16, 48)
    kv, local = ([rand(64, 48) / 48**0.5 for _ in "kv"] for _ in range(2))
    options = {"n_heads": 4, "cond_or_uncond": [1, 0, 0], "uuids": ["a", "b", "c"]}
    named_in = [
        {(options["cond_or_uncond"][n], options["uuids"][n]): at for n, at in rows.items()},
        {(0, "b"): (7,)},
    ]
    patch: Any = None
    for name, where in zip(("<rex>", "<cup>"), named_in, strict=True):
        part = LocalPart(named(name), features, Details(0.8), 0.8)
        options[part.key] = where
        patch = LocalAttention(part, tuple(local)).wrap(patch)
    ours = patch(q, context @ kv[0].T, context @ kv[1].T, options)
    for n in range(6):
        every = [rows.get(n // 2), (7,) if n // 2 == 1 else None]
        plain = [Local(list(at), features, {"": local}, 0.8) for at in every if at]
        expected = plain_elite(q[n], context[n], 4, kv, plain)
        assert distance(ours[n], expected) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_attention_in_half_precision(dtype):
    generator = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    q, k, v, features = rand(2, 32, 64), rand(2, 77, 64), rand(2, 77, 64), rand(16, 48)
    part = LocalPart(named("<rex>"), features, Details(0.8), 0.8)
    patch = LocalAttention(part, (rand(64, 48), rand(64, 48))).wrap(None)
    options = {"n_heads": 4, **told(part, ["a", "b"])}
    exact = patch(q, k, v, options)
    halved = patch(*(t.to(dtype) for t in (q, k, v)), options)
    assert halved.dtype == dtype and distance(halved.float(), exact) < 0.05


def test_local_keys_and_values_are_computed_once(tiny_sd1, concept, monkeypatch):
    counted = []
    compute = LocalAttention._compute

    def counting(self, place):
        counted.append(place)
        return compute(self, place)

    monkeypatch.setattr(LocalAttention, "_compute", counting)
    drawn(tiny_sd1, concept, steps=4)
    assert len(counted) == len(concept.encoder.local_stage.projections) == 7


def named(placeholder):
    return types.SimpleNamespace(placeholder=placeholder)


def told(part, uuids):
    """What the wrapper tells the patch: the word is in row 5 of the last chunk."""
    groups = list(range(len(uuids)))
    return {"uuids": uuids, "cond_or_uncond": groups, part.key: {(groups[-1], uuids[-1]): (5,)}}


# --- equal to stock ---------------------------------------------------------------------------


def test_strength_0_is_the_users_model(tiny_sd1, concept):
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, 0)
    assert model is tiny_sd1.model
    for a, b in zip(encode(clip, PROMPT), encode(tiny_sd1.clip, "a photo of dog on the beach"),
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)


def test_no_details_and_the_models_own_keys_and_values_are_stock(tiny_sd1):
    own = elite_concept(random_encoder(tiny_sd1, same_global=True))
    clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, as_words(own))[1]
    stock = sample(tiny_sd1.model, conditioning(clip, PROMPT), conditioning(clip, ""))
    assert torch.equal(drawn(tiny_sd1, own, details=Details(0)), stock)
    assert not torch.equal(drawn(tiny_sd1, own), stock)
    # a prompt without the word is drawn as if there were no local attention
    plain = sample(tiny_sd1.model, conditioning(clip, "a dog"), conditioning(clip, ""))
    assert torch.equal(drawn(tiny_sd1, own, prompt="a dog"), plain)


def test_the_users_objects_are_untouched(tiny_sd1, concept):
    positive, negative = (conditioning(tiny_sd1.clip, p) for p in ("a dog", ""))
    before = sample(tiny_sd1.model, positive, negative)
    options, patches = repr(tiny_sd1.model.model_options), dict(tiny_sd1.model.patches)
    drawn(tiny_sd1, concept)
    assert torch.equal(sample(tiny_sd1.model, positive, negative), before)
    assert repr(tiny_sd1.model.model_options) == options and tiny_sd1.model.patches == patches
    assert tiny_sd1.model.wrappers == {}


# --- where and when ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "rows"),
    [
        (PROMPT, (4,)),
        ("(<rex>:1.3) and <rex>", (1, 3)),
        ("<rex:word1> of <rex>", (3,)),
        (LONG + "<rex>", None),
    ],
)
def test_the_conditioning_tells_the_rows(tiny_sd1, concept, prompt, rows):
    _, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    ((cond, extra),) = conditioning(clip, prompt)
    found = extra[MENTIONS]["<rex>"]
    if rows is not None:
        assert found == rows
        return
    (row,) = found
    assert row > 77 and cond.shape[1] > 77
    word = "dog" if "<rex>" in prompt else ""
    ((other, _),) = conditioning(tiny_sd1.clip, prompt.replace("<rex>", word))
    same = (cond == other).all(dim=2)[0] if cond.shape == other.shape else None
    assert same is not None and same[77:row].all() and not same[row]


@pytest.mark.parametrize("prompt", ["", "a dog", "<rex:word1>", "<other>"])
def test_other_prompts_tell_nothing(tiny_sd1, concept, prompt):
    _, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    assert MENTIONS not in conditioning(clip, prompt)[0][1]


def test_a_picture_does_not_depend_on_its_batch(tiny_sd1, concept):
    noise = latents(3)
    noise[1] *= 2
    together = drawn(tiny_sd1, concept, noise=noise)
    for n in range(3):
        alone = drawn(tiny_sd1, concept, noise=noise[n : n + 1])
        assert distance(together[n : n + 1], alone) < 1e-4


def test_the_window_of_sampling(tiny_sd1, concept):
    full, none = drawn(tiny_sd1, concept), drawn(tiny_sd1, concept, details=Details(0))
    seen = {w: drawn(tiny_sd1, concept, details=Details(0.8, *w))
            for w in ((0.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.0, 0.5), (0.5, 1.0))}  # fmt: skip
    assert torch.equal(seen[0.0, 1.0], full)
    assert torch.equal(seen[1.0, 1.0], none)
    for window in ((0.0, 0.5), (0.5, 1.0)):
        assert distance(seen[window], full) > 1e-4 and distance(seen[window], none) > 1e-4


def test_strength_moves_smoothly(tiny_sd1, concept):
    at = {s: drawn(tiny_sd1, concept, s) for s in (0, 1e-5, 0.999, 1)}
    assert distance(at[0.999], at[1]) < 0.05
    assert distance(at[1e-5], at[0]) < 0.05


# --- together with others ---------------------------------------------------------------------


def test_two_concepts_in_one_prompt(tiny_sd1, encoder, concept):
    other = elite_concept(encoder, "<cup>", seed=5)
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, 1.0, details=EVERYTHING)
    model, clip = apply_concept(model, clip, other, 1.0, details=Details(0.5))
    prompt = "a <rex> and <cup>"
    ours = sample(model, conditioning(clip, prompt), conditioning(clip, ""))
    words = apply_concept(tiny_sd1.model, tiny_sd1.clip, as_words(concept))[1]
    words = apply_concept(tiny_sd1.model, words, as_words(other))[1]
    positive, local = conditioning(words, prompt), encoder.local_stage.projections
    added = [
        Local([2], concept.tensors["local"], local, 0.8),
        Local([4], other.tensors["local"], local, 0.5),
    ]
    once = encoder.global_stage.projections
    plain = plain_model(tiny_sd1, once, [(positive[0][0], added)])
    expected = sample(plain, positive, conditioning(words, ""))
    assert distance(ours, expected) < 1e-5
    # the one that is not written does not act
    alone = sample(model, conditioning(clip, PROMPT), conditioning(clip, ""))
    assert distance(alone, drawn(tiny_sd1, concept)) < 1e-5


def test_a_second_concept_adds_the_larger_strength_only(tiny_sd1, encoder, concept):
    other = elite_concept(encoder, "<cup>", seed=5)

    def strengths(*pair):
        model, clip = tiny_sd1.model, tiny_sd1.clip
        for one, strength in zip((concept, other), pair, strict=True):
            model, clip = apply_concept(model, clip, one, strength, details=Details(0))
        key = next(k for k in model.patches if k.endswith("attn2.to_k.weight"))
        return sum(patch[0] for patch in model.patches[key])

    assert strengths(1.0, 1.0) == strengths(0.4, 1.0) == strengths(1.0, 0.4) == 1.0


def test_another_encoder_beside_it_is_refused(tiny_sd1, concept):
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    other = elite_concept(random_encoder(tiny_sd1, seed=7), "<cup>")
    with pytest.raises(PersonalizeError, match="Another ELITE encoder.*one encoder, such as rand"):
        apply_concept(model, clip, other)


def test_lora_on_the_same_weights_composes(tiny_sd1, encoder):
    own = weights_of(tiny_sd1.model)
    lora = {
        f"diffusion_model.{path}.attn2.to_{x}.weight": ("diff", (b - a,))
        for path, pair in moved(own, 3).items()
        for x, a, b in zip("kv", own[path], pair, strict=True)
    }
    concept = elite_concept(encoder)
    first = tiny_sd1.model.clone()
    first.add_patches(lora, 0.5)
    before, clip = apply_concept(first, tiny_sd1.clip, concept)
    after, _ = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept)
    after.add_patches(lora, 0.5)
    positive, negative = conditioning(clip, PROMPT), conditioning(clip, "")
    # also when the LoRA is in the weights at the moment the concept is applied
    sample(first, positive, negative)
    loaded, _ = apply_concept(first, tiny_sd1.clip, concept)
    results = [sample(m, positive, negative) for m in (before, after, loaded)]
    assert distance(results[0], results[1]) < 1e-4
    assert torch.equal(results[0], results[2])
    assert distance(results[0], drawn(tiny_sd1, concept)) > 1e-3


# --- what is refused --------------------------------------------------------------------------


def test_bad_input(tiny_sd1, tiny_sd2, encoder, concept):
    def refused(says, concept=concept, details=EVERYTHING, error=PersonalizeError, tiny=tiny_sd1):
        with pytest.raises(error, match=says):
            apply_concept(tiny.model, tiny.clip, concept, 1.0, details=details)

    refused("local_strength of 0 or more", details=Details(float("nan")))
    refused("start_percent <= end_percent", details=Details(0.8, 0.6, 0.4))
    refused("encoder that made it, which is not loaded", replace(concept, encoder=None))
    refused("local features of shape", replace(concept, tensors={"local": torch.ones(4, 3)}))
    nan = torch.full((16, 64), float("nan"))
    refused("NaN", replace(concept, tensors={"local": nan}))
    refused("1.x.*2.x", error=BaseModelError, tiny=tiny_sd2)
    stage = encoder.global_stage
    fewer = EliteStage(stage.mapper, dict(list(stage.projections.items())[1:]))
    lacking = replace(concept, encoder=replace(encoder, global_stage=fewer))
    refused("projections for 6 cross attentions, this MODEL has 7", lacking, error=BaseModelError)


@pytest.mark.parametrize("family", ["SD3", "Flux"])
def test_models_of_other_families_are_refused(tiny_sd1, concept, family):
    from comfy import supported_models

    config = getattr(supported_models, family)
    theirs = types.SimpleNamespace(model=types.SimpleNamespace(model_config=config({})))
    with pytest.raises(BaseModelError, match=f"MODEL is a {family}. Expected a Stable Diff.*1.x"):
        apply_concept(theirs, tiny_sd1.clip, concept)
    text = type(f"{family}Clip", (), {})()
    clip = types.SimpleNamespace(cond_stage_model=text, tokenizer=None)
    with pytest.raises(BaseModelError, match=f"CLIP is a {family}Clip.*Expected the CLIP of a St"):
        apply_concept(tiny_sd1.model, clip, concept)
