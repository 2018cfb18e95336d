"""CatVersion: training, applying and importing, against an independent text encoder."""

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.bases import BASES, TextLayer
from personalize.concepts.concept import Concept
from personalize.concepts.errors import (
    BaseModelError,
    ConceptFileError,
    PersonalizeError,
    TrainingError,
)
from personalize.concepts.files import load_concept, save_concept
from personalize.concepts.residuals import residual_layers, residual_tensors
from personalize.host.backbone import Backbone
from personalize.host.base_models import towers_of
from personalize.samplers.apply import apply_concept
from personalize.tests.devices import close, device, here
from personalize.tests.stock import (
    LONG,
    assert_differ,
    assert_same,
    base_of,
    encode,
    make_concept,
    text_lora,
    width_of,
)
from personalize.tests.training.test_learn import train as learn_from
from personalize.tests.training.test_parity import no_pictures
from personalize.training.batch import Batch
from personalize.training.catversion import CatVersion, CatVersionConfig

pytestmark = pytest.mark.host

LATENTS = (2, 4, 8, 8)


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


def reaching(tiny):
    """Text layers that reach the UNet, by encoder: all 4 of tiny SD1, else all but the last one."""
    return {
        "sd1": {"clip_l": 4},
        "sd2": {"clip_h": 3},
        "sdxl": {"clip_l": 3, "clip_g": 4},
    }[base_of(tiny)]


def changed(tiny, layers=3):
    """The layers that a concept changes, in the order of its tensors."""
    return [
        TextLayer(encoder, index)
        for encoder, last in reaching(tiny).items()
        for index in range(last - layers, last)
    ]


def layer_of(base, index):
    return TextLayer(BASES[base].encoder_names[0], index)


def widths_of(tiny):
    return {tower.name: tower.width for tower in towers_of(tiny.clip).towers}


def catversion(
    tiny, n=1, layers=3, bias=1.0, placeholder="<cat>", class_word="dog", seed=3, d=None
):
    generator, widths = torch.Generator().manual_seed(seed), widths_of(tiny)
    pairs = {
        layer: tuple(torch.randn(2, n, d or widths[layer.encoder], generator=generator))
        for layer in changed(tiny, layers)
    }
    return Concept(
        methods.CATVERSION, base_of(tiny), d or width_of(tiny), placeholder, class_word,
        tensors=residual_tensors(BASES[base_of(tiny)], pairs, bias),
    )  # fmt: skip


def applied(tiny, concept, strength=1.0, clip=None):
    return apply_concept(tiny.model, clip or tiny.clip, concept, strength)[1]


# --- against an independent implementation ----------------------------------------------------


def hidden_states(text, ids, concept, encoder):
    """What transformers' layers make of a prompt, with the residual columns written out, after each
    of them: (1, 77, d)."""
    layers, bias = residual_layers(concept) if concept else ({}, 0.0)
    layers = {layer.index: pair for layer, pair in layers.items() if layer.encoder == encoder}
    x, states = text.embeddings(ids), []
    causal = torch.full((77, 77), float("-inf")).triu(1)
    for number, layer in enumerate(text.encoder.layers):
        h, attn = layer.layer_norm1(x), layer.self_attn
        heads = lambda t, a=attn: t.reshape(-1, a.num_heads, a.head_dim).transpose(0, 1)  # noqa: E731
        q, k, v = (heads(p(h[0])) for p in (attn.q_proj, attn.k_proj, attn.v_proj))
        logits = q @ k.transpose(1, 2) / attn.head_dim**0.5 + causal
        if number in layers:
            keys, values = (heads(t) for t in layers[number])
            residual = q @ keys.transpose(1, 2) / attn.head_dim**0.5 + bias
            logits, v = torch.cat([residual, logits], dim=2), torch.cat([values, v], dim=1)
        out = logits.softmax(dim=2) @ v
        x = x + attn.out_proj(out.transpose(0, 1).reshape(1, 77, -1))
        x = x + layer.mlp(layer.layer_norm2(x))
        states.append(x)
    return states


def independent(text, ids, concept):
    """The last layer that reaches the UNet after the final norm, of a base with one encoder."""
    (encoder,) = BASES[concept.base].encoder_names if concept else ("",)
    return text.final_layer_norm(hidden_states(text, ids, concept, encoder)[-1])


def told(reference, clip, prompt, concept):
    """What the reference's UNet is told of a prompt twice: rows, or rows and pooled vectors."""
    ids = all_ids_of(clip, prompt)
    if concept.base != "sdxl":
        return independent(reference.text, *ids.values(), concept).expand(2, -1, -1)
    first = hidden_states(reference.text, ids["l"], concept, "clip_l")
    text = reference.second.text_model
    second = hidden_states(text, ids["g"], concept, "clip_g")
    end = (ids["g"] == 49407).int().argmax()
    pooled = reference.second.text_projection(text.final_layer_norm(second[-1])[:, end])
    rows = torch.cat([first[-2], second[-2]], dim=-1)
    return rows.expand(2, -1, -1), pooled.expand(2, -1)


def text_reference(clip, shape, layers):
    from personalize.tests.training.reference import TEXT_KEYS, text_model

    inner = TEXT_KEYS.partition(".")[2]
    weights = clip.cond_stage_model.state_dict().items()
    weights = {k.partition(inner)[2]: here(w.detach()).float() for k, w in weights if inner in k}
    return text_model(weights, shape, layers)


def all_ids_of(clip, prompt):
    """Token ids of a short prompt by the encoder's key."""
    return {
        key: torch.tensor([[int(token) for token, _ in chunk]])
        for key, (chunk,) in clip.tokenize(prompt).items()
    }


def ids_of(clip, prompt):
    (ids,) = all_ids_of(clip, prompt).values()
    return ids


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
@torch.inference_mode()
def test_parity_at_real_widths(kind):
    from personalize.tests.training.reference import SD1_TEXT, SD2_TEXT
    from personalize.tests.training.test_parity import random_clip

    clip = random_clip(kind)
    shape, reach = {"sd1": (SD1_TEXT, 12), "sd2": (SD2_TEXT, 23)}[kind]
    text, width = text_reference(clip, shape, reach), shape["hidden_size"]
    generator = torch.Generator().manual_seed(1)
    prompt = "a photo of a {} on the beach"
    for n in (1, 4):
        for bias in (0.0, 1.0):
            pairs = {
                layer_of(kind, index): tuple(torch.randn(2, n, width, generator=generator))
                for index in range(reach - 3, reach)
            }
            tensors = residual_tensors(BASES[kind], pairs, bias)
            concept = Concept(methods.CATVERSION, kind, width, "<cat>", "dog", tensors=tensors)
            from personalize.samplers.apply import with_text
            from personalize.samplers.prompt_words import AppliedConcept
            from personalize.samplers.strength import Strength

            ours = encode(
                with_text(clip, AppliedConcept(concept, Strength(1.0))), prompt.format("<cat>")
            )[0]
            theirs = independent(text, ids_of(clip, prompt.format("dog")), concept)
            plain = independent(text, ids_of(clip, prompt.format("dog")), None)
            assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-5
            assert ((ours - plain).norm() / plain.norm()).item() > 1e-3


@pytest.mark.parametrize(("n", "bias"), [(1, 1.0), (4, 0.0)])
def test_gradient_of_one_step_equals_the_plain_computation(every_tiny, n, bias):
    from personalize.tests.training import reference as plain
    from personalize.tests.training.test_parity import shape_of, tokenizer_folder

    tiny = every_tiny
    reference = plain.reference(tiny.path, shape_of(tiny.kind), tokenizer_folder(), words=0)
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(LATENTS, generator=generator) for _ in range(2))
    t = torch.tensor([30, 700])
    config = CatVersionConfig(
        placeholder="<cat>", class_word="dog", residual_tokens=n, logit_bias=bias
    )
    backbone = Backbone(tiny.model, tiny.clip)
    with backbone.session(LATENTS):
        learner = CatVersion(config, backbone, no_pictures())
        batch = Batch(x0, noise, t, torch.zeros(2).long(), torch.zeros(2).long())
        loss = learner.loss(backbone, batch.to(device()))["denoising"]
        ours = torch.autograd.grad(loss, [learner.keys, learner.values])
    leaves = [here(part.detach()).clone() for part in (learner.keys, learner.values)]
    for leaf in leaves:
        leaf.requires_grad_(True)
    tensors = {"logit_bias": torch.tensor(bias)}
    for row, layers in enumerate(learner.changed):
        parts = [backbone.split(leaf[row]) for leaf in leaves]
        for layer, key, value in zip(layers, *parts, strict=True):
            encoder = f"{layer.encoder}." if len(layers) > 1 else ""
            tensors[f"residual.{encoder}{layer.index}.key"] = key
            tensors[f"residual.{encoder}{layer.index}.value"] = value
    concept = Concept(methods.CATVERSION, base_of(tiny), backbone.width, "<cat>", "dog",
                      tensors=tensors)  # fmt: skip
    context = told(reference, tiny.clip, "dog", concept)
    expected = reference.denoising_loss(context, x0, noise, t)
    theirs = torch.autograd.grad(expected, leaves)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    for a, b in zip(here(ours), theirs, strict=True):
        assert b.norm() > 1e-6
        assert ((a - b).norm() / b.norm()).item() < 1e-4


# --- in prompts -------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", "a photo of a dog", "(a cat:1.3)", LONG, "<other>"])
@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_a_prompt_without_the_placeholder_is_untouched(tiny, prompt, strength):
    assert_same(
        encode(applied(tiny, catversion(tiny), strength), prompt), encode(tiny.clip, prompt)
    )


@pytest.mark.parametrize("prompt", ["{}", "a ({}:1.3) on the beach", LONG + "{}" + LONG])
@pytest.mark.parametrize("class_word", ["dog", "teddy bear"])
def test_strength_0_is_the_class_word_and_strength_moves_smoothly(tiny, prompt, class_word):
    concept = catversion(tiny, class_word=class_word)
    prompt, plain = prompt.format("<cat>"), prompt.format(class_word)
    stock = encode(tiny.clip, plain)
    assert_same(encode(applied(tiny, concept, 0), prompt), stock)
    at = {s: encode(applied(tiny, concept, s), prompt)[0] for s in (1e-6, 0.5, 0.9999, 1, 2)}
    assert torch.allclose(at[0.9999], at[1], atol=2e-3)
    if len(plain) < 200:  # a longer prompt may be cut into chunks at another place
        assert torch.allclose(at[1e-6], stock[0], atol=2e-3)
        steps = [(at[s] - stock[0]).norm() for s in (1e-6, 0.5, 1, 2)]
        assert steps == sorted(steps)


def test_every_chunk_of_its_prompt_has_the_residuals(tiny):
    concept = catversion(tiny)
    with_cat = encode(applied(tiny, concept), LONG + "a <cat> " + LONG)[0]
    stock = encode(tiny.clip, LONG + "a embedding:none " + LONG)[0]
    assert with_cat.shape[1] >= 3 * 77
    for chunk in range(with_cat.shape[1] // 77):
        rows = slice(77 * chunk, 77 * (chunk + 1))
        assert not torch.allclose(with_cat[:, rows], stock[:, rows], atol=1e-2)


def test_weights_are_taken_against_the_stock_empty_prompt(tiny):
    concept, empty = catversion(tiny), encode(tiny.clip, "")[0]
    clip = applied(tiny, concept)
    plain = encode(clip, "a <cat>")[0]
    weighted = encode(clip, "a (<cat>:1.5)")[0]
    assert torch.allclose(
        weighted[0, 2], empty[0, 2] + 1.5 * (plain[0, 2] - empty[0, 2]), atol=1e-4
    )
    assert torch.allclose(weighted[0, :2], plain[0, :2], atol=1e-5)


@torch.inference_mode()
def test_clip_skip_that_cuts_into_the_changed_layers(tiny):
    from nodes import CLIPSetLastLayer

    concept, prompt = catversion(tiny), "a <cat> on the beach"
    seen = []
    for skip in (-1, -2, -3):
        before = CLIPSetLastLayer().set_last_layer(tiny.clip, skip)[0]
        after = CLIPSetLastLayer().set_last_layer(applied(tiny, concept), skip)[0]
        assert_same(encode(applied(tiny, concept, clip=before), prompt), encode(after, prompt))
        plain = encode(before, "a dog on the beach")[0]
        seen.append((encode(after, prompt)[0] - plain).norm().item())
    assert seen[1] > 0.1 and seen[2] > 0.1


def test_lora_on_the_text_encoder(tiny):
    concept, prompt = catversion(tiny), "a <cat>, sitting"
    lora_first = tiny.clip.clone()
    lora_first.add_patches(text_lora(tiny))
    after = applied(tiny, concept).clone()
    after.add_patches(text_lora(tiny))
    assert_same(encode(applied(tiny, concept, clip=lora_first), prompt), encode(after, prompt))
    assert_differ(encode(after, prompt), encode(applied(tiny, concept), prompt))


def test_two_concepts_stand_side_by_side(tiny):
    one, two = (
        catversion(tiny),
        catversion(tiny, n=2, placeholder="<hat>", class_word="hat", seed=9),
    )
    clip = applied(tiny, two, clip=applied(tiny, one))
    assert_same(encode(clip, "a <cat>"), encode(applied(tiny, one), "a <cat>"))
    assert_same(encode(clip, "a <hat>"), encode(applied(tiny, two), "a <hat>"))
    joined = {
        layer: tuple(
            torch.cat([a, b]) for a, b in zip(pair, residual_layers(two)[0][layer], strict=True)
        )
        for layer, pair in residual_layers(one)[0].items()
    }
    both = Concept(methods.CATVERSION, one.base, one.text_width, "<both>", "dog with a hat",
                   tensors=residual_tensors(BASES[one.base], joined, 1.0))  # fmt: skip
    together = encode(clip, "<cat> with a <hat>")
    expected = encode(applied(tiny, both), "<both>")
    assert torch.allclose(together[0], expected[0], atol=1e-5)


def test_beside_a_word_concept(tiny):
    word, cat = make_concept(tiny, 2), catversion(tiny)
    one = applied(tiny, cat, clip=applied(tiny, word))
    other = applied(tiny, word, clip=applied(tiny, cat))
    prompt = "a <cat> with <my-dog>"
    assert_same(encode(one, prompt), encode(other, prompt))
    assert_same(encode(one, "<my-dog>"), encode(applied(tiny, word), "<my-dog>"))
    half = applied(tiny, word, 0.5, clip=applied(tiny, cat))
    ends = encode(applied(tiny, word, 0, clip=applied(tiny, cat)), prompt), encode(one, prompt)
    middle = (ends[0][0] + ends[1][0]) / 2
    assert torch.allclose(encode(half, prompt)[0], middle, atol=1e-4)


def test_the_model_is_the_users_own_and_the_clip_untouched(tiny):
    before, patches = encode(tiny.clip, "a dog"), dict(tiny.clip.patcher.object_patches)
    options = repr(tiny.model.model_options)
    model, clip = apply_concept(tiny.model, tiny.clip, catversion(tiny))
    encode(clip, "a <cat>")
    assert model is tiny.model and repr(model.model_options) == options
    assert tiny.clip.patcher.object_patches == patches
    assert_same(encode(tiny.clip, "a dog"), before)


# --- training ---------------------------------------------------------------------------------


def config(**changes):
    return CatVersionConfig(
        placeholder="<cat>", class_word="dog", resolution=64, **{"steps": 4} | changes
    )


def train(tiny, settings, *args):
    pictures = [torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))]
    return learn_from(tiny, settings, pictures, *args)


def test_learns_and_round_trips(tiny, tmp_path):
    learned = train(tiny, config(residual_tokens=2))
    layers, bias = residual_layers(learned.concept)
    assert sorted(layers) == sorted(changed(tiny)) and bias == 1.0
    widths = widths_of(tiny)
    for layer, pair in layers.items():
        assert all(t.shape == (2, widths[layer.encoder]) for t in pair)
    save_concept(learned.concept, tmp_path / "c.safetensors")
    again = load_concept(tmp_path / "c.safetensors")
    assert again.tensors.keys() == learned.concept.tensors.keys()
    assert all(torch.equal(again.tensors[k], v) for k, v in learned.concept.tensors.items())
    prompt = "a <cat> on the beach"
    assert_same(
        encode(applied(tiny, again), prompt), encode(applied(tiny, learned.concept), prompt)
    )


def test_resumes_bit_equal_and_repeats_by_seed(tiny, tmp_path):
    def stop(report):
        if report.step == 2:
            raise KeyError

    whole = train(tiny, config())
    with pytest.raises(KeyError):
        train(tiny, config(), stop, tmp_path)
    resumed = train(tiny, config(), lambda report: None, tmp_path, True)
    other = train(tiny, config(train_seed=5))
    for key, tensor in whole.concept.tensors.items():
        assert torch.equal(tensor, resumed.concept.tensors[key])
        assert key == "logit_bias" or not torch.equal(tensor, other.concept.tensors[key])


def test_what_it_trains_on_is_what_a_prompt_gets(tiny):
    """The encoding of the training prompt is the stock node's of the bare placeholder."""
    backbone = Backbone(tiny.model, tiny.clip)
    with backbone.session(LATENTS):
        learner = CatVersion(config(), backbone, no_pictures())
        zeros = torch.zeros(LATENTS)
        batch = Batch(zeros, zeros, *[torch.zeros(1).long()] * 3).to(device())
        trained = learner.context(backbone, batch)
        assert torch.equal(trained.rows, learner.context(backbone, batch).rows)
    rows, pooled = encode(applied(tiny, learner.to_concept()), "<cat>")
    assert close(trained.rows.detach(), rows)
    if trained.pooled is not None:
        assert close(trained.pooled.detach(), pooled)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual_tokens": 0}, "1 to 75 residual_tokens, got 0"),
        ({"layers": 0}, "Expected 1 to . layers, got 0"),
        ({"layers": 9}, "layers, got 9"),
        ({"last_layer": 40}, "end at layer 40"),
        ({"class_word": " "}, "class_word is empty"),
    ],
)
def test_settings_that_cannot_work_are_refused(tiny, changes, message):
    with pytest.raises(TrainingError, match=message):
        train(tiny, CatVersionConfig(**{**vars(config()), **changes}))


def test_concepts_that_do_not_fit_are_refused(tiny_sd1):
    with pytest.raises(PersonalizeError, match="no class word.*class_word of Load Concept"):
        applied(tiny_sd1, catversion(tiny_sd1, class_word=""))
    with pytest.raises(BaseModelError, match="32.*64"):
        applied(tiny_sd1, catversion(tiny_sd1, d=32))
    deep = catversion(tiny_sd1)
    tensors = {k.replace(".3.", ".7."): v for k, v in deep.tensors.items()}
    deep = Concept(methods.CATVERSION, "sd1", 64, "<x>", "dog", tensors=tensors)
    with pytest.raises(BaseModelError, match="changes text layer 8, but this CLIP has 4"):
        applied(tiny_sd1, deep)
    with pytest.raises(ConceptFileError, match="lacks residual keys"):
        applied(tiny_sd1, Concept(methods.CATVERSION, "sd1", 64, "<x>", "dog"))
    with pytest.raises(PersonalizeError, match="0 or more.*-1"):
        applied(tiny_sd1, catversion(tiny_sd1), -1.0)
