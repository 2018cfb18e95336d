"""Evaluate Concept, as the host runs it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from personalize.concepts.errors import ConceptFileError, EvaluationError
from personalize.evaluation.evaluate import MEASURES
from personalize.host.folders import scores_output
from personalize.nodes.evaluate import NO_MODEL, EvaluateConcept
from personalize.tests.score_models import write_clip, write_dino

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def models(host_base):
    root = host_base / "models" / "clip_metrics"
    write_clip(root / "tiny-clip")
    write_dino(root / "of-others" / "tiny-dino")
    (root / "not-there-yet").mkdir()
    return root


def image(seed, *sizes):
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return [torch.rand(1, *size, 3, generator=generator) for size in sizes]


def run(**inputs) -> Any:
    """Inputs as lists, as the host gives them to a node that takes lists."""
    given = {
        "generated": image(0, (40, 40), (50, 33)),
        "references": image(1, (64, 48)),
        "prompt": ["a <my-dog> on the beach"],
        "class_word": ["dog"],
        "clip_folder": ["tiny-clip"],
    }
    with torch.inference_mode():
        return EvaluateConcept.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**(given | inputs))


def masks(*sizes):
    return [torch.ones(1, *size) for size in sizes]


def test_the_folders_are_listed(models):
    inputs = EvaluateConcept.INPUT_TYPES()
    listed = inputs["required"]["clip_folder"][1]["options"]
    assert listed == ["not-there-yet", "of-others/tiny-dino", "tiny-clip"]
    assert inputs["optional"]["dino_folder"][1]["options"] == [NO_MODEL, *listed]


def test_scores_and_report(models):
    output = run()
    scores, report = output.result
    told = json.loads(scores)
    assert list(told["means"]) == ["CLIP-T", "CLIP-I"]
    assert [p["prompt"] for p in told["pictures"]] == ["a dog on the beach"] * 2
    assert report.shape[0] == 1 and report.shape[2:] == (960, 3)
    assert report.dtype == torch.float32 and 0 <= report.min() < report.max() <= 1
    assert output.ui["images"] and output.ui["scores"] == [scores] and not output.ui["files"]
    assert run().result[0] == scores


def test_every_score(models):
    output = run(
        generated_masks=masks((40, 40), (50, 33)), reference_masks=masks((32, 24)),
        dino_folder=["of-others/tiny-dino"], identity_folder=["tiny-clip"],
    )  # fmt: skip
    assert list(json.loads(output.result[0])["means"]) == list(MEASURES)


def test_a_prompt_for_each_picture(models):
    told = json.loads(run(prompt=["a <a>", "a <b> dog"]).result[0])
    assert [p["prompt"] for p in told["pictures"]] == ["a dog", "a dog"]


def test_nothing_is_written_unless_asked_and_then_into_the_output_folder(models, host_base):
    before = set((host_base / "output").rglob("*"))
    run()
    assert set((host_base / "output").rglob("*")) == before
    (path,) = run(filename=["study/rex"], file_format=["json"]).ui["files"]
    assert Path(path) == scores_output() / "study" / "rex.json"
    assert json.loads(Path(path).read_text("utf-8"))["means"]
    (again,) = run(filename=["study/rex"], file_format=["json"]).ui["files"]
    assert Path(again).name == "rex-2.json"
    (table,) = run(filename=["study/rex"], file_format=["csv"]).ui["files"]
    assert Path(table).read_text("utf-8").startswith("picture,prompt,CLIP-T,CLIP-I\n")
    with pytest.raises(ConceptFileError, match="is no file name"):
        run(filename=["../rex"])


@pytest.mark.parametrize("inputs, told", [
    ({"references": [torch.zeros(0, 8, 8, 3)]}, "There are no reference pictures"),
    ({"reference_masks": masks((64, 48), (64, 48))}, "reference_masks: Expected a mask for each"),
    ({"generated_masks": masks((40, 40), (50, 50))}, "generated_masks: Mask 2 has 50x50 pixels"),
    ({"generated_masks": [torch.zeros(2, 40, 40)]}, "generated_masks: Mask 1 .* is empty"),
    ({"prompt": ["a <me> and <my-dog>"]}, "more than one placeholder: <me>, <my-dog>"),
    ({"placeholder": ["<cup>"]}, "has <my-dog>, but the concept's placeholder is <cup>"),
    ({"prompt": ["a", "b", "c"]}, "Got 3 prompts for 2 generated pictures"),
    ({"clip_folder": ["not-there-yet"]}, "not-there-yet is no complete model folder: it lacks"),
    ({"clip_folder": ["gone"]}, "There is no folder 'gone' .* Looked in .*clip_metrics"),
    ({"clip_folder": ["../checkpoints"]}, "There is no folder"),
    ({"clip_folder": [NO_MODEL]}, "no model to score with in .*clip_metrics. Copy .*config.json"),
    ({"clip_folder": ["of-others/tiny-dino"]}, "tokenizer.json or vocab.json with merges.txt"),
    ({"dino_folder": ["gone"]}, "There is no folder 'gone'"),
])  # fmt: skip
def test_bad_input(models, inputs, told):
    with pytest.raises(EvaluationError, match=told):
        run(**inputs)


def test_without_any_model_the_node_says_where_to_put_one(host_base, monkeypatch, tmp_path):
    import folder_paths

    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "clip_metrics", ([str(tmp_path)], set())
    )
    assert EvaluateConcept.INPUT_TYPES()["required"]["clip_folder"][1]["options"] == [NO_MODEL]


def test_cancel_is_heard_and_the_inputs_are_untouched(models):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    pictures = image(0, (40, 40))
    copy = pictures[0].clone()
    interrupt_current_processing(True)
    with pytest.raises(InterruptProcessingException):
        run(generated=pictures)
    interrupt_current_processing(False)
    run(generated=pictures)
    assert torch.equal(pictures[0], copy)


def scored(**inputs):
    return json.loads(run(**inputs).result[0])


def test_cut_outs_bring_their_masks_and_transparent_masks_are_turned_over(models, caplog):
    shape = torch.zeros(1, 64, 48)
    shape[:, 16:48, 12:36] = 1
    (reference,) = image(1, (64, 48))
    plain = scored(references=[reference], reference_masks=[shape])
    assert plain == scored(references=[reference], reference_masks=[1 - shape])
    assert plain == scored(
        references=[reference], reference_masks=[1 - shape], mask_marks=["background"]
    )
    white = reference * shape[..., None] + (1 - shape[..., None])
    cut_out = torch.cat([reference, shape[..., None]], dim=-1)
    assert scored(references=[cut_out]) == scored(references=[white], reference_masks=[shape])
    forced = scored(references=[reference], reference_masks=[1 - shape], mask_marks=["subject"])
    assert forced != plain
