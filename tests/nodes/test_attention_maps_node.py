"""Show Attention Maps as the host runs it."""

import pytest
import torch
from personalize.concepts.errors import PersonalizeError
from personalize.nodes import attention_maps
from personalize.nodes.attention_maps import ShowAttentionMaps
from personalize.pictures.heat import heat
from personalize.tests.nodes.test_concept_nodes import run as run_node
from personalize.tests.samplers.test_word_maps import EMPTY, PICTURE, maps_of

pytestmark = pytest.mark.host

PROMPT = "a red dog on grass"


def shown(tiny, latent=PICTURE, **inputs):
    models = {"model": tiny.model, "clip": tiny.clip}
    settings = {"prompt": PROMPT, "latent": {"samples": latent}, "steps": 2}
    return run_node(ShowAttentionMaps, **models, **settings, **inputs)


def test_a_picture_and_a_map_for_each_word(tiny_sd1):
    output = shown(tiny_sd1, words="dog, grass")
    images, maps, report = output.result
    assert images.shape == (2, 64, 64, 3) and maps.shape == (2, 64, 64)
    assert torch.allclose(images, heat(maps))
    assert maps.min() >= 0 and maps.amax(dim=(1, 2)).tolist() == pytest.approx([1, 1], abs=0.1)
    assert report.shape[0] == 1 and output.ui.as_dict()["images"]
    every = shown(tiny_sd1).result
    assert len(every[0]) == 5
    low = maps_of(tiny_sd1.model, tiny_sd1.clip, PROMPT, words="dog, grass").maps
    places = torch.nn.functional.adaptive_avg_pool2d(maps, 8).flatten(1)
    for mine, plain in zip(places, low.flatten(1), strict=True):
        assert torch.corrcoef(torch.stack([mine, plain]))[0, 1] > 0.97


def test_with_a_vae_the_maps_lie_on_the_picture(tiny_sd1):
    plain = shown(tiny_sd1, words="dog").result
    over = shown(tiny_sd1, words="dog", vae=tiny_sd1.vae).result
    assert torch.equal(plain[1], over[1]) and not torch.equal(plain[0], over[0])
    drawn = shown(tiny_sd1, EMPTY, words="dog", vae=tiny_sd1.vae, cfg=3.0).result
    assert drawn[0].shape == (1, 64, 64, 3)


def test_one_scale_for_all_shows_what_gets_more(tiny_sd1):
    alone, together = (
        shown(tiny_sd1, words="dog, grass", same_scale=same).result[1] for same in (False, True)
    )
    assert together.amax(dim=(1, 2)).max() > 0.9
    assert together.amax(dim=(1, 2)).min() < alone.amax(dim=(1, 2)).min()


def test_settings_reach_the_maps(tiny_sd1):
    plain = shown(tiny_sd1, EMPTY, words="dog").result[1]
    for change in (
        {"layers": "half"},
        {"start_percent": 0.6},
        {"end_percent": 0.4},
        {"sample_seed": 1},
        {"cfg": 2.0},
        {"negative": "a cat"},
    ):
        assert not torch.equal(shown(tiny_sd1, EMPTY, words="dog", **change).result[1], plain)


def test_many_words_stand_in_rows(tiny_sd1, monkeypatch):
    told = {}
    grid = attention_maps.labelled_grid

    def note(images, rows, columns, captions):
        told.update(rows=len(rows), columns=len(columns), captions=captions)
        return grid(images, rows, columns, captions)

    monkeypatch.setattr(attention_maps, "labelled_grid", note)
    shown(tiny_sd1, words="a, red, dog, on, grass, red dog, dog on")
    assert told["rows"] == 2 and told["columns"] == attention_maps.COLUMNS
    assert told["captions"] == ["a", "red", "dog", "on", "grass", "red dog", "dog on"]


def test_a_word_that_is_not_there_is_told(tiny_sd1):
    with pytest.raises(PersonalizeError, match="no word '<my-dog>'. Its words are: a, red, dog"):
        shown(tiny_sd1, words="<my-dog>")
    with pytest.raises(PersonalizeError, match="start_percent below end_percent"):
        shown(tiny_sd1, start_percent=0.5, end_percent=0.5)
