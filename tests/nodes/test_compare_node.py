"""Compare Concepts: each picture is the one that Apply Concept and a sampler would draw."""

import shutil

import pytest
import torch
from comfy.utils import ProgressBar
from personalize.concepts.errors import BaseModelError, EvaluationError, PersonalizeError
from personalize.host.sampling import text_to_image
from personalize.nodes import compare
from personalize.nodes.compare import CompareConcepts
from personalize.samplers.apply import apply_concept
from personalize.tests.nodes.test_concept_nodes import run as run_node
from personalize.tests.samplers.test_local_weights import detex
from personalize.tests.score_models import write_clip
from personalize.tests.stock import make_concept
from personalize.tests.training.test_learn import sample, weights

pytestmark = pytest.mark.host

INPUTS = {
    "prompts": ["a {} on the beach\n{} at night"],
    "strengths": ["0.5, 1"],
    "sample_seed": [3],
    "steps": [2],
    "cfg": [3.0],
    "resolution": [64],
}


@pytest.fixture
def scorer(host_base):
    """A tiny CLIP that scores, for as long as a test needs it."""
    folder = write_clip(host_base / "models" / "clip_metrics" / "compare-clip")
    yield folder.name
    shutil.rmtree(folder)


def compare_on(tiny, *concepts, **inputs):
    models = {"model": [tiny.model], "clip": [tiny.clip], "vae": [tiny.vae]}
    sockets = {f"concept{n}": [concept] for n, concept in enumerate(concepts)}
    return run_node(CompareConcepts, concepts=sockets, **{**INPUTS, **models, **inputs})


def drawn(tiny, concept, prompt, strength):
    patched = apply_concept(tiny.model, tiny.clip, concept, strength)
    return text_to_image(*patched, tiny.vae, prompt, 64, seed=3, steps=2, cfg=3.0)


def test_every_concept_strength_and_prompt(tiny_sd1):
    word, weights_too = make_concept(tiny_sd1), detex(tiny_sd1, "<a>")
    output = compare_on(tiny_sd1, word, weights_too)
    report, images = output.result
    expected = [
        drawn(tiny_sd1, concept, line.replace("{}", concept.placeholder), strength)
        for concept in (word, weights_too)
        for strength in (0.5, 1.0)
        for line in INPUTS["prompts"][0].splitlines()
    ]
    assert torch.equal(images, torch.cat(expected))
    assert report.shape[0] == 1 and report.shape[1] > report.shape[2] > 256
    assert output.ui.as_dict()["images"]


def test_no_preview_is_left_in_the_place_of_the_report(tiny_sd1, monkeypatch):
    """Nodes 2.0 would go on showing the last one."""
    told = []
    tell = lambda bar, value, total=None, preview=None: told.append((value, preview))  # noqa: E731
    monkeypatch.setattr(ProgressBar, "update_absolute", tell)
    compare_on(tiny_sd1, make_concept(tiny_sd1), prompts=["a {}"])
    assert told == [(1, None), (2, None)]


def test_strength_0_shows_the_class_word(tiny_sd1):
    _, images = compare_on(
        tiny_sd1, make_concept(tiny_sd1), prompts=["a {}"], strengths=["0"]
    ).result
    plain = text_to_image(
        tiny_sd1.model, tiny_sd1.clip, tiny_sd1.vae, "a dog", 64, seed=3, steps=2, cfg=3.0
    )
    assert torch.equal(images, plain)


def test_concepts_of_one_placeholder_and_lists_of_concepts(tiny_sd1):
    """Each row has the MODEL to itself."""
    one, other = (make_concept(tiny_sd1, seed=seed) for seed in (1, 2))
    inputs = {"prompts": ["a {}"], "strengths": ["1"]}
    _, images = compare_on(tiny_sd1, one, other, **inputs).result
    assert not torch.equal(images[0], images[1])
    models = {"model": [tiny_sd1.model], "clip": [tiny_sd1.clip], "vae": [tiny_sd1.vae]}
    listed = run_node(
        CompareConcepts, concepts={"concept0": [one, other]}, **{**INPUTS, **models, **inputs}
    )
    assert torch.equal(listed.result[1], images)


def test_settings_reach_the_sampler(tiny_sd1):
    concept, inputs = make_concept(tiny_sd1), {"prompts": ["a {}"], "strengths": ["1"]}
    plain = compare_on(tiny_sd1, concept, **inputs).result[1]
    for change in (
        {"sample_seed": [4]},
        {"steps": [3]},
        {"cfg": [1.5]},
        {"negative": ["a cat"]},
        {"sampler_name": ["dpmpp_2m"]},
        {"scheduler": ["karras"]},
        {"resolution": [72]},
    ):
        other = compare_on(tiny_sd1, concept, **{**inputs, **change}).result[1]
        assert other.shape != plain.shape or not torch.equal(other, plain), change


def test_resolution_0_is_the_bases_own(tiny_sd1, monkeypatch):
    sides = []

    def note(*models, **settings):
        sides.append(models[4])
        return torch.zeros(1, 64, 64, 3)

    monkeypatch.setattr(compare, "text_to_image", note)
    compare_on(tiny_sd1, make_concept(tiny_sd1), resolution=[0])
    assert set(sides) == {512}


def test_scores_where_a_model_for_them_is_there(tiny_sd1, scorer):
    seen = []
    concept = make_concept(tiny_sd1)
    plain = compare_on(tiny_sd1, concept).result
    for references in ([], [torch.rand(2, 40, 30, 3)]):
        inputs = {"clip_folder": [scorer], "references": references}
        seen.append(compare_on(tiny_sd1, concept, **inputs).result)
        assert torch.equal(seen[-1][1], plain[1])
        assert seen[-1][0].shape[1] > plain[0].shape[1]  # a line of scores below each picture
    assert not torch.equal(seen[0][0], seen[1][0])


def test_the_line_of_scores(tiny_sd1, scorer, monkeypatch):
    told = {}
    grid = compare.labelled_grid

    def note(images, rows, columns, captions):
        told.update(rows=rows, columns=columns, captions=captions)
        return grid(images, rows, columns, captions)

    monkeypatch.setattr(compare, "labelled_grid", note)
    references = [torch.rand(1, 40, 30, 3)]
    inputs = {"clip_folder": [scorer], "references": references, "strengths": ["1"]}
    compare_on(tiny_sd1, make_concept(tiny_sd1), **inputs)
    assert told["columns"] == ["a {} on the beach", "{} at night"]
    assert told["rows"] == [("<my-dog>", "Textual Inversion")]
    assert len(told["captions"]) == 2
    assert all(c.startswith("CLIP-T ") and "  CLIP-I " in c for c in told["captions"])


def test_what_cannot_be_drawn_is_told_before_anything_is_drawn(tiny_sd1, tiny_sd2, monkeypatch):
    concept = make_concept(tiny_sd1)
    monkeypatch.setattr(compare, "text_to_image", None)
    for changes, error, message in (
        ({"prompts": ["a {}\na dog"]}, PersonalizeError, "'a dog' does not name <my-dog>"),
        ({"strengths": ["strong"]}, PersonalizeError, "are no strengths"),
        ({"strengths": ["-1"]}, PersonalizeError, "Expected a strength of 0 or more"),
        ({"prompts": [" "]}, PersonalizeError, "no prompt"),
        ({"clip_folder": ["gone"]}, EvaluationError, "no folder 'gone'"),
    ):
        with pytest.raises(error, match=message):
            compare_on(tiny_sd1, concept, **changes)
    with pytest.raises(BaseModelError, match=r"learned on Stable Diffusion 1\.x"):
        compare_on(tiny_sd2, concept)


def test_cancel_is_heard_and_the_models_are_untouched(tiny_sd1):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    before, kept = sample(tiny_sd1, "a dog"), weights(tiny_sd1.model)
    interrupt_current_processing(True)
    try:
        with pytest.raises(InterruptProcessingException):
            compare_on(tiny_sd1, detex(tiny_sd1))
    finally:
        interrupt_current_processing(False)
    compare_on(tiny_sd1, detex(tiny_sd1))
    assert torch.equal(sample(tiny_sd1, "a dog")[1], before[1])
    now = weights(tiny_sd1.model)
    assert all(torch.equal(kept[key], now[key]) for key in kept)
