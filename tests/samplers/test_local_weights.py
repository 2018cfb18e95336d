"""Weights that act in a concept's own prompts: exact there, absent everywhere else."""

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.differences import difference_tensors
from personalize.host.base_models import base_of_model
from personalize.samplers.apply import apply_concept
from personalize.tests.stock import assert_same, base_of, width_of
from personalize.tests.training.test_parity import relative

pytestmark = pytest.mark.host


@pytest.fixture(params=["tiny_sd1", "tiny_sd2v", "tiny_sdxl"])
def tiny(request):
    return request.getfixturevalue(request.param)


def detex(tiny, placeholder="<a>", seed=0, scale=0.2):
    generator = torch.Generator().manual_seed(seed)
    layers = base_of_model(tiny.model).projections(tiny.model.model.diffusion_model)
    differences = {
        path: scale * torch.randn(layer.weight.shape, generator=generator)
        for path, layer in layers.items()
    }
    width = width_of(tiny)
    words = {name: torch.randn(1, width, generator=generator) for name in ("", "pose1")}
    tensors = difference_tensors(differences)
    return Concept(
        methods.DETEX, base_of(tiny), width, placeholder, "dog", words=words, tensors=tensors
    )


def applied(tiny, *concepts, own=True, model=None, strength=1.0):
    patched = model or tiny.model, tiny.clip
    for concept in concepts:
        patched = apply_concept(*patched, concept, strength, own_prompts=own)
    return patched


@torch.inference_mode()
def conditioning(clip, *texts):
    from nodes import CLIPTextEncode

    return [cond for text in texts for cond in CLIPTextEncode().encode(clip, text)[0]]


@torch.inference_mode()
def drawn(models, *texts, negative="", cfg=1.0, steps=1):
    """Latents from several prompts combined; at cfg 1 the negative one is not evaluated."""
    from nodes import KSampler

    model, clip = models
    conds = conditioning(clip, *texts), conditioning(clip, negative)
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    return KSampler().sample(model, 3, steps, cfg, "euler", "normal", *conds, latent, 1.0)[0][
        "samples"
    ]


PROMPT = "a photo of <a> on the beach"


def test_in_its_own_prompt_it_is_the_method(tiny):
    concept = detex(tiny)
    everywhere = drawn(applied(tiny, concept, own=False), PROMPT)
    alone = drawn(applied(tiny, concept), PROMPT)
    stock_weights = (tiny.model, applied(tiny, concept)[1])
    effect = (everywhere - drawn(stock_weights, PROMPT)).norm()
    assert effect > 0.01 * everywhere.norm()
    assert (alone - everywhere).norm() < 0.01 * effect  # patched weights are rounded to fp16


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_strength_multiplies_the_weights(tiny_sd1, strength):
    concept = detex(tiny_sd1)
    local = drawn(applied(tiny_sd1, concept, strength=strength), PROMPT)
    everywhere = drawn(applied(tiny_sd1, concept, strength=strength, own=False), PROMPT)
    assert relative(local, everywhere) < 1e-3


def test_other_prompts_are_stock_bit_for_bit(tiny):
    models = applied(tiny, detex(tiny), detex(tiny, "<b>", 1))
    stock = drawn((tiny.model, tiny.clip), "a dog", negative="blurry", cfg=3.0, steps=2)
    assert torch.equal(drawn(models, "a dog", negative="blurry", cfg=3.0, steps=2), stock)


def test_strength_0_is_the_users_model(tiny_sd1):
    assert applied(tiny_sd1, detex(tiny_sd1), strength=0.0)[0] is tiny_sd1.model


def test_two_concepts_in_two_prompts_are_each_drawn_as_if_alone(tiny):
    """One step is linear in the prediction, and that is the mean over combined prompts."""
    a, b = detex(tiny), detex(tiny, "<b>", 1)
    both = applied(tiny, a, b)
    prompts = PROMPT, "a <b> in the snow"
    alone = [
        drawn(applied(tiny, concept), prompt)
        for concept, prompt in zip((a, b), prompts, strict=True)
    ]
    assert relative(drawn(both, *prompts), (alone[0] + alone[1]) / 2) < 1e-4
    summed = drawn(applied(tiny, a, b, own=False), *prompts)
    assert relative(summed, (alone[0] + alone[1]) / 2) > 1e-2


def test_the_negative_prompt_keeps_the_stock_weights(tiny_sd1):
    """Guidance of the model with the weights over the one without them."""
    concept, cfg = detex(tiny_sd1), 3.0
    models = applied(tiny_sd1, concept)
    positive, negative = drawn(models, PROMPT), drawn((tiny_sd1.model, models[1]), "blurry")
    guided = drawn(models, PROMPT, negative="blurry", cfg=cfg)
    assert relative(guided, negative + cfg * (positive - negative)) < 1e-4


def test_an_attribute_word_alone_names_the_concept(tiny_sd1):
    concept = detex(tiny_sd1)
    prompt = "a cat with <a:pose1> pose"
    local = drawn(applied(tiny_sd1, concept), prompt)
    assert relative(local, drawn(applied(tiny_sd1, concept, own=False), prompt)) < 1e-3


def test_prompts_of_several_chunks(tiny_sd1):
    prompt = "a photo of a castle with many towers " * 12 + " and <a>"
    concept = detex(tiny_sd1)
    local = drawn(applied(tiny_sd1, concept), prompt)
    assert relative(local, drawn(applied(tiny_sd1, concept, own=False), prompt)) < 1e-3


def test_others_patches_and_loras_keep_their_effect(tiny_sd1):
    concept, seen = detex(tiny_sd1), []
    model = tiny_sd1.model.clone()
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    model.add_patches({key: ("diff", (0.3 * torch.randn(64, 64),))})

    def theirs(q, k, v, options):
        from personalize.host.attention import cross_attention

        seen.append(k.clone())
        return 0.5 * cross_attention(q, k, v, options)

    model.set_model_attn2_replace(theirs, "middle", 0, 0)
    local = drawn(applied(tiny_sd1, concept, model=model), PROMPT)
    everywhere = drawn(applied(tiny_sd1, concept, model=model, own=False), PROMPT)
    assert relative(local, everywhere) < 1e-3
    assert relative(seen[0], seen[-1]) < 1e-3


def test_it_has_no_effect_on_other_methods(tiny_sd1):
    from personalize.tests.stock import encode, make_concept

    word = make_concept(tiny_sd1, placeholder="<a>")
    pair = [applied(tiny_sd1, word, own=own) for own in (True, False)]
    assert all(model is tiny_sd1.model for model, _ in pair)
    assert_same(*(encode(clip, PROMPT) for _, clip in pair))
