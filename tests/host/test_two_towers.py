"""A made-up base with two text encoders and a pooled vector, as one class and one line in a list:
all that reads or learns words works with it, and no other file knows it."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.bases import BASES, Base, TextLayer
from personalize.concepts.concept import Concept
from personalize.concepts.files import save_embedding
from personalize.concepts.residuals import residual_layers, residual_tensors
from personalize.host import base_models
from personalize.host.autograd import differentiable
from personalize.host.bases.host_base import HostBase
from personalize.host.conditioning import Conditioning
from personalize.host.text_encoder import TextEncoder
from personalize.samplers.apply import with_text
from personalize.samplers.mentions import MENTIONS
from personalize.samplers.prompt_words import AppliedConcept
from personalize.samplers.strength import Strength
from personalize.tests.devices import close, here, same, there
from personalize.training.catversion import CatVersion, CatVersionConfig
from personalize.training.cross_init import CrossInitConfig, initial_words
from personalize.training.prompts import PromptTable

pytestmark = pytest.mark.host

NARROW, WIDE = 64, 96
WIDTH = NARROW + WIDE
TWO = Base("two", "Two Encoders", (("clip_l", NARROW), ("clip_g", WIDE)), WIDTH, 64)


class Two(HostBase):
    base = TWO
    configs = ()

    def join(self, outputs):
        rows = torch.cat([output.rows for output in outputs], dim=-1)
        return Conditioning(rows, outputs[1].pooled)

    def as_words(self, outputs):
        return torch.cat([output.last for output in outputs], dim=-1)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The line in each list."""
    monkeypatch.setitem(BASES, TWO.key, TWO)
    monkeypatch.setattr(base_models, "HOST_BASES", (*base_models.HOST_BASES, Two()))


@pytest.fixture(scope="module")
def clip(host_base):
    """The host's two encoders of SDXL, small and random: 4 and 5 layers, pads 49407 and 0."""
    from comfy import sd, sd1_clip, sdxl_clip, supported_models_base
    from personalize.tests.host_models.families import TINY_SD1_TEXT, TINY_SD2_TEXT
    from personalize.tests.training.test_parity import fill

    class Tokenizer(sdxl_clip.SDXLTokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(embedding_directory, tokenizer_data or {})
            self.clip_l.embedding_size, self.clip_g.embedding_size = NARROW, WIDE

    class Model(sdxl_clip.SDXLClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            torch.nn.Module.__init__(self)
            shared = {"device": device, "dtype": dtype, "layer": "hidden", "layer_idx": -2}
            shared |= {"layer_norm_hidden_state": False, "model_options": model_options or {}}
            self.clip_l = sd1_clip.SDClipModel(textmodel_json_config=dict(TINY_SD1_TEXT), **shared)
            self.clip_g = sd1_clip.SDClipModel(
                textmodel_json_config=TINY_SD2_TEXT | {"num_hidden_layers": 5},
                special_tokens={"start": 49406, "end": 49407, "pad": 0},
                **shared,
            )
            self.dtypes = {dtype}

    folder = host_base / "models" / "embeddings"
    made = sd.CLIP(
        supported_models_base.ClipTarget(Tokenizer, Model),
        embedding_directory=[str(folder)],
        model_options={"dtype": torch.float32},
    )
    bank = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for number, (name, weight) in enumerate(made.cond_stage_model.named_parameters()):
            if weight.ndim:
                fill(name, weight, bank[number * 7919 % 99991 :])
    return made


@torch.inference_mode()
def encode(clip, text):
    from nodes import CLIPTextEncode

    ((rows, extra),) = CLIPTextEncode().encode(clip, text)[0]
    return rows, extra


def assert_same(one, other):
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1]["pooled_output"], other[1]["pooled_output"])


def text_of(clip):
    with torch.inference_mode():
        clip.load_model()
    return TextEncoder(clip)


def word(rows=2, seed=0):
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def concept(method=methods.TEXTUAL_INVERSION, **more):
    more = {"words": {"": word()}} | more
    return Concept(method, TWO.key, WIDTH, "<x>", "big dog", **more)


def applied(clip, one, strength=1.0, own_prompts=False):
    return with_text(clip, AppliedConcept(one, Strength(strength), own_prompts))


@pytest.mark.parametrize("skip", [None, -1, -3])
@pytest.mark.parametrize("prompt", ["", "a photo of a dog", "many towers and flags " * 18])
def test_context_and_pooled_are_the_hosts(clip, prompt, skip):
    if skip is not None:
        clip = clip.clone()
        clip.clip_layer(skip)
    rows, extra = encode(clip, prompt)
    with torch.no_grad():
        text = text_of(clip)
        ours = text.encode(text.prompts([prompt]))
    assert same(ours.rows, rows)
    assert same(ours.pooled, extra["pooled_output"])


def test_gradients_reach_a_words_vectors_in_both_encoders(clip):
    text = text_of(clip)
    table = PromptTable(text, [["a photo of ", range(2), " on the beach"]])
    with torch.inference_mode(False), differentiable(clip.cond_stage_model):
        vectors = there(word()).requires_grad_()
        made = text.encode(table.embed(text, torch.tensor([0]), vectors))
        of_rows = torch.autograd.grad(made.rows.square().sum(), vectors, retain_graph=True)[0]
        of_pooled = torch.autograd.grad(made.pooled.sum(), vectors)[0]
    assert all(part.abs().sum(dim=1).all() for part in text.split(of_rows))
    narrow, wide = text.split(of_pooled)
    assert not narrow.any() and wide.abs().sum(dim=1).all()


def test_each_encoder_has_its_own_layers_and_its_own_size_of_words(clip):
    text = text_of(clip)
    assert text.last_layers == [TextLayer("clip_l", 2), TextLayer("clip_g", 3)]  # of 4 and 5
    for (width, norm), tower in zip(text.word_sizes(), text.towers, strict=True):
        table = here(tower.text_model.embeddings.token_embedding.weight.detach()).float()
        assert width == table.shape[1]
        assert norm == pytest.approx(table[::16].norm(dim=1).mean().item(), rel=1e-5)


def test_the_embedding_of_a_prompt_is_what_the_last_encoder_pools(clip):
    with torch.no_grad():
        text = text_of(clip)
        prompts = text.prompts(["a dog", "a photo of a cat"])
        assert same(text.embedding(prompts), text.encode(prompts).pooled)


def test_each_encoder_has_its_own_padding(clip):
    table = PromptTable(text_of(clip), [["a dog"]])
    assert table.ids[0, :4].tolist() == [[n, n] for n in (49406, 320, 1929, 49407)]
    assert table.ids[0, 4:].unique(dim=0).tolist() == [[49407, 0]]
    assert table.ends.tolist() == [3]


@pytest.mark.parametrize("prompt", ["{}", "a ({}:1.2) on the beach", "flags and " * 40 + "{}"])
def test_a_concept_is_the_stock_embedding_of_its_file(clip, host_base, prompt):
    one = concept()
    path = host_base / "models" / "embeddings" / "two_towers.safetensors"
    if not path.exists():
        save_embedding(one, path)
    named = encode(applied(clip, one), prompt.format("<x>"))
    assert_same(named, encode(clip, prompt.format(" embedding:two_towers ")))
    dog = encode(clip, prompt.format("big dog"))
    assert_same(encode(applied(clip, one, 0.0), prompt.format("<x>")), dog)
    half = encode(applied(clip, one, 0.5), prompt.format("<x>"))
    middle = (named[1]["pooled_output"] + dog[1]["pooled_output"]) / 2
    assert torch.allclose(half[1]["pooled_output"], middle, atol=1e-5)
    assert_same(encode(applied(clip, one), "a cat"), encode(clip, "a cat"))


def test_rows_that_two_encoders_share_count_once(clip):
    one = replace(concept(), method=methods.DETEX)
    rows, extra = encode(applied(clip, one, own_prompts=True), "a photo of <x>")
    assert extra[MENTIONS]["<x>"] == (4, 5, 6, 7)  # two vectors and the class word
    assert max(extra[MENTIONS]["<x>"]) < rows.shape[1]


class Learning:
    """What a learner asks of a Backbone before its first step."""

    base, width, resolution = TWO, WIDTH, 512

    def __init__(self, clip):
        self.text = text_of(clip)
        self.device, self.split = self.text.device, self.text.split


class TwoPictures:
    t = torch.zeros(2)


def test_catversion_learns_and_draws_in_both_encoders(clip):
    backbone = Learning(clip)
    config = CatVersionConfig(placeholder="<x>", class_word="big dog")
    learner = CatVersion(config, backbone, None)
    ours = {layer for layers in learner.changed for layer in layers}
    assert ours == {
        *(TextLayer("clip_l", n) for n in (0, 1, 2)), *(TextLayer("clip_g", n) for n in (1, 2, 3))
    }  # fmt: skip
    with torch.no_grad():
        trained = learner.context(backbone, TwoPictures())
    made = learner.to_concept()
    pairs, _ = residual_layers(made)
    assert {layer: keys.shape[1] for layer, (keys, _) in pairs.items()} == {
        layer: NARROW if layer.encoder == "clip_l" else WIDE for layer in ours
    }
    assert "residual.clip_g.3.key" in made.tensors
    rows, extra = encode(applied(clip, made), "<x>")
    for row in (0, 1):
        assert close(trained.rows[row], rows[0])
        assert close(trained.pooled[row], extra["pooled_output"][0])
    assert not torch.allclose(rows, encode(clip, "big dog")[0], atol=1e-2)


def test_residuals_of_one_encoder_alone_are_refused(clip):
    from personalize.concepts.errors import ConceptFileError

    pairs = {TextLayer("clip_l", 1): (torch.ones(1, NARROW), torch.ones(1, NARROW))}
    half = residual_tensors(TWO, pairs, 1.0)
    with pytest.raises(ConceptFileError, match=r"\(1, 64\).*width 160"):
        residual_layers(concept(methods.CATVERSION, words={}, tensors=half))


def test_cross_initialization_starts_from_each_encoders_last_layer(clip):
    config = CrossInitConfig(placeholder="<x>", init_from="class word", class_word="big dog")
    with torch.no_grad():
        words = initial_words(text_of(clip), config)
    assert words.shape == (2, WIDTH)
    narrow, wide = words.split([NARROW, WIDE], dim=-1)
    for part in (narrow, wide):  # after the final norm
        assert 0.5 < part.std() < 2
    literal = replace(config, literal_output=True)
    with torch.no_grad():
        rows = initial_words(text_of(clip), literal)
    assert close(rows, encode(clip, "big dog")[0][0, 1:3], atol=1e-5)
