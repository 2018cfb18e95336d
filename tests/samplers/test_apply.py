"""A concept in stock prompts. Each equivalence is bit for bit."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.errors import BaseModelError, PersonalizeError, PlaceholderError
from personalize.concepts.files import save_embedding
from personalize.concepts.methods import Method, Part
from personalize.host.base_models import towers_of
from personalize.samplers.apply import PATCHES, apply_concept
from personalize.samplers.mentions import MENTIONS
from personalize.tests.stock import (
    LONG,
    assert_differ,
    assert_same,
    encode,
    make_concept,
    text_lora,
    width_of,
)

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


def applied(tiny, concept, strength=1.0, clip=None):
    return apply_concept(tiny.model, clip or tiny.clip, concept, strength)[1]


def vocabulary_word(tiny, word):
    tokens, parts = tiny.clip.tokenize(word), []
    for tower in towers_of(tiny.clip).towers:
        table = tower.encoder.transformer.get_input_embeddings().weight
        parts.append(table[tokens[tower.key][0][1][0]].float().clone())
    return torch.cat(parts)[None]


PROMPTS_WITHOUT = [
    "",
    "a photo of a dog",
    "(a cat:1.3) and [a mouse], <another> (nested (very) much)",
    LONG,
    "<my-cat>",
    "my-dog <my-dog",
    "embedding:missing and more",
]


@pytest.mark.parametrize("prompt", PROMPTS_WITHOUT)
@pytest.mark.parametrize("strength", [0, 0.5, 1, 2])
def test_a_prompt_without_the_placeholder_is_untouched(tiny, prompt, strength):
    clip = applied(tiny, make_concept(tiny, 2), strength)
    assert_same(encode(clip, prompt), encode(tiny.clip, prompt))


PLACES = [
    "{}",
    "a photo of {} on the beach",
    "{} on the beach",
    "on the beach {}",
    "{},{}",
    "a ({}:1.3) in the [snow]",
    "(((({}))) sleeping)",
    "a photo of {}, sitting; {} standing",
    "{}\n{}",
]


@pytest.mark.parametrize("prompt", PLACES)
def test_a_vocabulary_words_own_vector_is_that_word(tiny, prompt):
    concept = make_concept(tiny)
    concept = Concept(
        **{**vars(concept), "words": {"": vocabulary_word(tiny, "cat")}, "training": {}}
    )
    clip = applied(tiny, concept)
    assert_same(
        encode(clip, prompt.replace("{}", "<my-dog>")),
        encode(tiny.clip, prompt.replace("{}", "cat")),
    )


@pytest.mark.parametrize("prompt", [*PLACES, LONG + "{} " + LONG, LONG[:300] + "{} in the rain"])
@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.usefixtures("tiny_widths")
def test_equals_the_stock_embedding_of_the_same_file(tiny, host_base, prompt, vectors):
    concept = make_concept(tiny, vectors)
    save_embedding(concept, host_base / "models" / "embeddings" / f"same_{vectors}.safetensors")
    ours = encode(applied(tiny, concept), prompt.replace("{}", "<my-dog>"))
    name = f" embedding:same_{vectors} "
    assert_same(ours, encode(tiny.clip, prompt.replace("{}", name)))


@pytest.mark.parametrize("prompt", [*PLACES, "<{}s", LONG + "{} " + LONG])
@pytest.mark.parametrize("class_word", ["dog", "teddy bear", ""])
def test_strength_0_is_the_class_word(tiny, prompt, class_word):
    clip = applied(tiny, make_concept(tiny, 2, class_word=class_word), 0)
    assert_same(
        encode(clip, prompt.replace("{}", "<my-dog>")),
        encode(tiny.clip, prompt.replace("{}", class_word)),
    )


def test_strength_moves_smoothly_between_its_ends_and_beyond(tiny):
    concept = make_concept(tiny, 3, class_word="teddy bear")
    prompt = "a ({}:1.2) on the beach"
    both = {
        s: encode(applied(tiny, concept, s), prompt.format("<my-dog>"))
        for s in (0, 1e-4, 0.25, 0.5, 1 - 1e-4, 1, 1.5)
    }
    at, pooled = ({s: both[s][n] for s in both} for n in (0, 1))
    assert torch.allclose(pooled[0.5], (pooled[0] + pooled[1]) / 2, atol=1e-5)
    assert torch.allclose(at[1e-4], at[0], atol=1e-3)
    assert torch.allclose(at[1 - 1e-4], at[1], atol=1e-3)
    assert torch.allclose(at[0.25], (at[0] + at[0.5]) / 2, atol=1e-4)
    assert torch.allclose(at[1.5], at[1] + (at[1] - at[0.5]), atol=1e-4)


SIZES = {"width": 64, "height": 64, "crop_w": 0, "crop_h": 0} | {
    "target_width": 64, "target_height": 64}  # fmt: skip


@torch.inference_mode()
def encode_xl(clip, text_g, text_l):
    from comfy_extras.nodes_clip_sdxl import CLIPTextEncodeSDXL

    ((cond, extra),) = CLIPTextEncodeSDXL.execute(clip=clip, text_g=text_g, text_l=text_l, **SIZES)[
        0
    ]
    return cond, extra["pooled_output"]


@pytest.mark.usefixtures("tiny_widths")
@pytest.mark.parametrize(
    ("text_g", "text_l"),
    [
        ("a {} on the beach", "a {} on the beach"),
        ("a {} on the beach", "painting"),
        ("painting", "a ({}:1.2) on the beach"),
        ("{}, " + LONG, "a {}"),
    ],
)
def test_the_two_texts_of_the_node_for_sdxl(tiny_sdxl, host_base, text_g, text_l):
    """The concept may stand in one of them alone: its text encoder alone reads it then."""
    concept = make_concept(tiny_sdxl, 2, class_word="teddy bear")
    save_embedding(concept, host_base / "models" / "embeddings" / "two_texts.safetensors")

    def with_strength(strength):
        texts = (text.replace("{}", "<my-dog>") for text in (text_g, text_l))
        return encode_xl(applied(tiny_sdxl, concept, strength), *texts)

    def stock(word):
        return encode_xl(tiny_sdxl.clip, text_g.replace("{}", word), text_l.replace("{}", word))

    assert_same(with_strength(1), stock(" embedding:two_texts "))
    assert_same(with_strength(0), stock("teddy bear"))
    for half, one, none in zip(*(with_strength(s) for s in (0.5, 1, 0)), strict=True):
        assert torch.allclose(half, (one + none) / 2, atol=1e-4)
    texts = (text.replace("{}", "dog") for text in (text_g, text_l))
    assert_same(encode_xl(applied(tiny_sdxl, concept, 0.5), *texts), stock("dog"))


@pytest.mark.usefixtures("tiny_widths")
def test_two_concepts_in_one_prompt(tiny, host_base):
    one = make_concept(tiny, 2)
    two = make_concept(tiny, 1, "<hat>", "hat", seed=5)
    folder = host_base / "models" / "embeddings"
    for concept, name in ((one, "one"), (two, "two")):
        save_embedding(concept, folder / f"{name}.safetensors")
    clip = applied(tiny, two, clip=applied(tiny, one))
    assert_same(
        encode(clip, "<my-dog> with <hat>"), encode(tiny.clip, "embedding:one with embedding:two")
    )
    assert_same(encode(clip, "<hat>"), encode(applied(tiny, two), "<hat>"))


def test_two_strengths_blend_one_after_another(tiny):
    one, two = make_concept(tiny, 2), make_concept(tiny, 1, "<hat>", "top hat", seed=5)
    prompt = "<my-dog> with <hat>"

    def at(a, b):
        return encode(applied(tiny, two, b, clip=applied(tiny, one, a)), prompt)[0]

    expected = 0.75 * (0.6 * at(0, 0) + 0.4 * at(0, 1)) + 0.25 * (0.6 * at(1, 0) + 0.4 * at(1, 1))
    assert torch.allclose(at(0.25, 0.4), expected, atol=1e-4)


def test_attribute_words(tiny):
    pose = torch.randn(1, width_of(tiny), generator=torch.Generator().manual_seed(9))
    concept = make_concept(tiny, 1, pose2=pose)
    alone = Concept(**{**vars(make_concept(tiny, 1, "<pose>")), "words": {"": pose}})
    prompt = "a dog in <{}> pose"
    assert_same(
        encode(applied(tiny, concept), prompt.format("my-dog:pose2")),
        encode(applied(tiny, alone), prompt.format("pose")),
    )
    unknown = "a dog in <my-dog:pose3> pose"
    assert_same(encode(applied(tiny, concept), unknown), encode(tiny.clip, unknown))


def test_long_prompts_never_split_the_vectors(tiny):
    concept = make_concept(tiny, 4)
    filler = " ".join(["tree"] * 73)
    clip = applied(tiny, concept)
    for chunks in clip.tokenize(f"{filler} <my-dog> house").values():
        held = [sum(torch.is_tensor(entry[0]) for entry in chunk) for chunk in chunks]
        assert held == [0, 4]


@torch.inference_mode()
def test_clip_skip_before_and_after(tiny):
    from nodes import CLIPSetLastLayer

    concept = make_concept(tiny, 2)
    skip = CLIPSetLastLayer()
    before = applied(tiny, concept, clip=skip.set_last_layer(tiny.clip, -2)[0])
    after = skip.set_last_layer(applied(tiny, concept), -2)[0]
    prompt = "a <my-dog>, sitting"
    assert_same(encode(before, prompt), encode(after, prompt))
    deeper = skip.set_last_layer(tiny.clip, -3)[0]
    assert_differ(encode(applied(tiny, concept, clip=deeper), prompt), encode(after, prompt))


@pytest.mark.parametrize("strength", [0.5, 1])
def test_lora_on_the_text_encoder_before_and_after(tiny, strength):
    concept, prompt = make_concept(tiny, 2), "a <my-dog>, sitting"
    lora_first = tiny.clip.clone()
    lora_first.add_patches(text_lora(tiny))
    before = applied(tiny, concept, strength, clip=lora_first)
    after = applied(tiny, concept, strength).clone()
    after.add_patches(text_lora(tiny))
    assert_same(encode(before, prompt), encode(after, prompt))
    assert_differ(encode(before, prompt), encode(applied(tiny, concept, strength), prompt))
    assert_same(encode(before, "a dog"), encode(lora_first, "a dog"))


def test_anothers_patch_of_the_encoding_is_kept(tiny):
    other = tiny.clip.clone()
    stock = other.patcher.get_model_object("encode_token_weights")
    other.patcher.add_object_patch(
        "encode_token_weights", lambda tokens: (stock(tokens)[0] * 2, stock(tokens)[1])
    )
    concept, prompt = make_concept(tiny, 2), "a <my-dog>, sitting"
    for strength in (0.5, 1):
        doubled = encode(applied(tiny, concept, strength, clip=other), prompt)[0]
        plain = encode(applied(tiny, concept, strength), prompt)[0]
        assert torch.allclose(doubled, 2 * plain, atol=1e-5)


def test_the_users_objects_are_untouched(tiny):
    prompt = "a <my-dog> on the beach"
    before = encode(tiny.clip, prompt)
    tokenizer, patches = tiny.clip.tokenizer, dict(tiny.clip.patcher.object_patches)
    model, clip = apply_concept(tiny.model, tiny.clip, make_concept(tiny, 2), 0.5)
    encode(clip, prompt)
    assert model is tiny.model
    assert tiny.clip.tokenizer is tokenizer
    assert tiny.clip.patcher.object_patches == patches
    assert_same(encode(tiny.clip, prompt), before)


def test_the_same_placeholder_twice_is_refused(tiny):
    clip = applied(tiny, make_concept(tiny))
    with pytest.raises(PlaceholderError, match=r"Two applied concepts.*<my-dog>.*Rename"):
        applied(tiny, make_concept(tiny, seed=4), clip=clip)


def test_a_concept_of_another_base_or_width_is_refused(tiny_sd1, tiny_sd2, tiny_sdxl):
    with pytest.raises(BaseModelError, match=r"1\.x \(text width 64\).*XL \(text width 160\)"):
        applied(tiny_sdxl, make_concept(tiny_sd1))
    with pytest.raises(BaseModelError, match=r"XL \(text width 160\).*1\.x \(text width 64\)"):
        applied(tiny_sd1, make_concept(tiny_sdxl))
    with pytest.raises(BaseModelError, match=r"2\.x \(text width 96\).*1\.x \(text width 64\)"):
        applied(tiny_sd1, make_concept(tiny_sd2))
    wide = Concept(methods.TEXTUAL_INVERSION, "sd1", 768, "<x>", words={"": torch.ones(768)})
    with pytest.raises(BaseModelError, match="768.*64"):
        applied(tiny_sd1, wide)
    with pytest.raises(BaseModelError, match=r"this MODEL is Stable Diffusion 2"):
        apply_concept(tiny_sd2.model, tiny_sd1.clip, make_concept(tiny_sd1))


def test_other_text_encoders_are_refused(tiny_sd1):
    from comfy.text_encoders.flux import FluxTokenizer

    other = tiny_sd1.clip.clone()
    other.tokenizer = FluxTokenizer.__new__(FluxTokenizer)
    with pytest.raises(BaseModelError, match="FluxTokenizer.*Expected the CLIP of a Stable"):
        applied(tiny_sd1, make_concept(tiny_sd1), clip=other)


def test_methods_of_the_future_are_refused(tiny_sd1, monkeypatch):
    monkeypatch.delitem(PATCHES, Part.DIFFERENCES)
    concept = Concept(methods.DETEX, "sd1", 64, "<x>", words={"": torch.ones(64)})
    with pytest.raises(PersonalizeError, match="DETEX.*cannot apply"):
        applied(tiny_sd1, concept)
    with pytest.raises(PersonalizeError, match="nan"):
        applied(tiny_sd1, make_concept(tiny_sd1), float("nan"))


def test_a_method_may_bring_its_own_patch_of_the_model(tiny_sd1):
    """It is called with what was applied, at any strength but 0, and the rows are told."""
    called = []

    def patch(model, applied):
        called.append(applied)
        return model.clone()

    method = Method("mine", "Mine", (Part.WORDS,), patch=patch)
    concept = replace(make_concept(tiny_sd1, vectors=2), method=method)
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, 0.5)
    assert model is not tiny_sd1.model
    assert [(one.concept, one.strength.value) for one in called] == [(concept, 0.5)]
    tokens = clip.tokenize(f"a photo of {concept.placeholder}")
    told = clip.encode_from_tokens_scheduled(tokens)[0][1]
    assert told[MENTIONS] == {concept.placeholder: (4, 5)}
    assert apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, 0)[0] is tiny_sd1.model
    assert len(called) == 1
