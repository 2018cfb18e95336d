"""Attention maps of words, against the plain computation inside the UNet."""

import math

import pytest
import torch
from personalize.concepts.errors import BaseModelError, PersonalizeError
from personalize.host.attention import cross_attention
from personalize.host.attention_maps import AttentionRecorder, Grid, grid_of
from personalize.samplers.apply import apply_concept
from personalize.samplers.word_maps import LAYERS, Look, word_maps
from personalize.tests.devices import close, here
from personalize.tests.samplers.test_local_weights import detex
from personalize.tests.stock import LONG, make_concept
from personalize.tests.training.test_learn import sample, weights

pytestmark = pytest.mark.host


@pytest.fixture
def tiny(tiny_base):
    return tiny_base


SIZE = 8
PROMPT = "a red dog on grass"
PICTURE = torch.randn(1, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
EMPTY = torch.zeros(1, 4, SIZE, SIZE)


@torch.inference_mode()
def maps_of(model, clip, prompt=PROMPT, latent=PICTURE, words="dog, grass", **look):
    return word_maps(model, clip, prompt, latent, words=words, look=Look(**{"steps": 2, **look}))


@pytest.fixture
def spied(tiny_sd1):
    """A MODEL that notes each cross attention's whole softmax, mean over the heads."""
    seen = []

    def note(q, k, v, options):
        heads = options["n_heads"]
        q_, k_ = (here(x).unflatten(-1, (heads, -1)).transpose(1, 2).double() for x in (q, k))
        logits = q_ @ k_.transpose(2, 3) / math.sqrt(q_.shape[-1])
        seen.append((options["cond_or_uncond"], logits.softmax(-1).mean(1).float()))
        return cross_attention(q, k, v, options)

    model = tiny_sd1.model.clone()
    for part in ("input", "output", "middle"):
        for number in range(12):
            model.set_model_attn2_replace(note, part, number)
    return model, seen


def plain_maps(seen, columns, scale=None, kind=0):
    """Mean of all maps of the sums of some columns, in the latent's size."""
    found = []
    for which, shares in seen:
        part = shares.chunk(len(which))[which.index(kind)]
        side = math.isqrt(part.shape[1])
        if scale is None or side == SIZE >> scale:
            stacked = torch.stack([part[0, :, rows].sum(-1) for rows in columns])
            found.append(
                torch.nn.functional.interpolate(
                    stacked.view(1, -1, side, side), (SIZE, SIZE), mode="bilinear"
                )[0]
            )
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("layers", ["all", "full", "half"])
def test_maps_of_a_finished_picture(tiny_sd1, spied, layers):
    model, seen = spied
    found = maps_of(model, tiny_sd1.clip, layers=layers, words="red dog, grass")
    assert [word.text for word in found.words] == ["red dog", "grass"]
    assert found.maps.shape == (2, SIZE, SIZE)
    expected = plain_maps(seen, [[2, 3], [5]], LAYERS[layers])
    assert close(found.maps, expected)
    assert torch.equal(found.latent, PICTURE)
    assert all(which == [0] for which, _ in seen)  # the negative prompt is left out


@pytest.mark.parametrize("negative", ["", LONG])
def test_maps_while_a_picture_is_drawn(tiny_sd1, spied, negative):
    """The negative prompt is in the same batch, and may be longer than the positive one."""
    model, seen = spied
    found = maps_of(model, tiny_sd1.clip, latent=EMPTY, words="dog", negative=negative, cfg=3.0)
    assert all(sorted(which) == [0, 1] for which, _ in seen)
    repeats = seen[0][1].shape[-1] // 77
    expected = plain_maps(seen, [[3 + 77 * n for n in range(repeats)]])
    assert close(found.maps, expected)
    stock = sample_as(tiny_sd1, negative)
    assert torch.equal(found.latent, stock)


def sample_as(tiny, negative):
    from nodes import CLIPTextEncode, KSampler

    with torch.inference_mode():
        positive, negative = (
            CLIPTextEncode().encode(tiny.clip, text)[0] for text in (PROMPT, negative)
        )
        settings = (0, 2, 3.0, "euler", "normal", positive, negative, {"samples": EMPTY}, 1.0)
        return KSampler().sample(tiny.model, *settings)[0]["samples"]


def test_the_shares_of_all_rows_are_everything(tiny):
    recorder = AttentionRecorder([range(77)], 77, (SIZE, SIZE))
    with torch.inference_mode():
        sample(tiny, PROMPT, recorder.attached(tiny.model))
    assert close(recorder.maps(), torch.ones(1, SIZE, SIZE))


def test_looking_changes_nothing(tiny):
    before, kept = sample(tiny, PROMPT), weights(tiny.model)
    recorder = AttentionRecorder([[1]], 77, (SIZE, SIZE))
    looked = sample(tiny, PROMPT, recorder.attached(tiny.model))
    maps_of(tiny.model, tiny.clip)
    after = sample(tiny, PROMPT)
    assert torch.equal(looked[1], before[1]) and torch.equal(after[1], before[1])
    now = weights(tiny.model)
    assert all(torch.equal(kept[key], now[key]) for key in kept)


def test_another_packs_attention_stays(tiny_sd1):
    calls = []

    def theirs(kernel, *args, **options):
        calls.append(args[1].shape[1])
        return 0 * kernel(*args, **options)

    model = tiny_sd1.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = theirs
    plain = sample(tiny_sd1, PROMPT, model)[1]
    count, recorder = len(calls), AttentionRecorder([[1]], 77, (SIZE, SIZE))
    assert torch.equal(sample(tiny_sd1, PROMPT, recorder.attached(model))[1], plain)
    assert len(calls) == 2 * count and recorder.maps().amax() > 0


@pytest.mark.parametrize("own_prompts", [False, True])
def test_a_concepts_own_keys_are_seen(tiny_sd1, own_prompts):
    """Also those that act in its own prompts alone, which no layer of the UNet holds."""
    concept = detex(tiny_sd1, scale=1.0)
    applied = [
        apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, own_prompts=own)
        for own in (False, own_prompts)
    ]
    one, other = (maps_of(*models, "a <a> on grass", words="<a>").maps for models in applied)
    assert torch.allclose(one, other, atol=1e-4)
    without = maps_of(tiny_sd1.model, applied[0][1], "a <a> on grass", words="<a>").maps
    assert not torch.allclose(one, without, atol=1e-2)


def test_every_word_at_once_and_the_same_again(tiny):
    _, clip = apply_concept(tiny.model, tiny.clip, make_concept(tiny))
    found = maps_of(tiny.model, clip, "a <my-dog> on grass", words="")
    assert [word.text for word in found.words] == ["a", "<my-dog>", "on", "grass"]
    assert len({tuple(m.flatten().tolist()) for m in found.maps}) == 4
    again = maps_of(tiny.model, clip, "a <my-dog> on grass", words="")
    assert torch.equal(found.maps, again.maps)
    other = maps_of(tiny.model, clip, "a <my-dog> on grass", words="", seed=1)
    assert not torch.equal(found.maps, other.maps)


def test_noise_levels_are_those_of_the_range(tiny_sd1):
    assert Look(steps=4).percents == [0.125, 0.375, 0.625, 0.875]
    assert Look(steps=2, start=0.5, end=0.7).percents == pytest.approx([0.55, 0.65])
    for start, end in ((0.5, 0.5), (0.7, 0.2), (-0.1, 1), (0, 1.1)):
        with pytest.raises(PersonalizeError, match="start_percent below end_percent"):
            Look(start=start, end=end)
    early = maps_of(tiny_sd1.model, tiny_sd1.clip, latent=EMPTY, steps=4, end=0.5).maps
    late = maps_of(tiny_sd1.model, tiny_sd1.clip, latent=EMPTY, steps=4, start=0.5).maps
    both = maps_of(tiny_sd1.model, tiny_sd1.clip, latent=EMPTY, steps=4).maps
    assert not torch.allclose(early, late, atol=1e-4)
    assert close((early + late) / 2, both)


def test_a_batch_shows_its_first_picture_and_sides_may_differ(tiny_sd1):
    wide = torch.randn(2, 4, 6, 11, generator=torch.Generator().manual_seed(2))
    one = maps_of(tiny_sd1.model, tiny_sd1.clip, latent=wide)
    other = maps_of(tiny_sd1.model, tiny_sd1.clip, latent=wide[:1])
    assert one.maps.shape == (2, 6, 11) and torch.equal(one.maps, other.maps)


@pytest.mark.parametrize(
    ("places", "size", "grid"),
    [
        (64, (8, 8), Grid(8, 8, 0)),
        (16, (8, 8), Grid(4, 4, 1)),
        (18, (6, 11), Grid(3, 6, 1)),
        (77, (8, 8), None),
        (256, (8, 8), None),
    ],
)
def test_grids_of_layers(places, size, grid):
    assert grid_of(places, size) == grid


def test_layers_that_the_model_lacks_are_told(tiny_sd1):
    with pytest.raises(BaseModelError, match="maps of 1/1, 1/2 of the latent.*Choose all layers"):
        maps_of(tiny_sd1.model, tiny_sd1.clip, layers="eighth")


def test_cancel_is_heard(tiny_sd1):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    for latent in (PICTURE, EMPTY):
        interrupt_current_processing(True)
        try:
            with pytest.raises(InterruptProcessingException):
                maps_of(tiny_sd1.model, tiny_sd1.clip, latent=latent)
        finally:
            interrupt_current_processing(False)
