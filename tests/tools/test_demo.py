"""The demo on the test server, and what it says when something is missing."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from personalize.miniature.files import CHECKPOINT, JUDGES, VISION, WEIGHTS, BadWeights
from personalize.miniature.subjects import Jury, Scores, face, prompts_for, thing
from personalize.studies.recipes import RECIPES, recipes_for
from personalize.studies.sheets import Row, draw_sheet
from personalize.tools import demo
from personalize.tools.demo import Shown, Task, show
from PIL import Image


@pytest.fixture(scope="module")
def jury() -> Jury:
    return Jury.load()


def shortened(key: str, steps: int = 2):
    recipe = RECIPES[key]
    settings = {**recipe.settings, "steps": steps, "batch_size": 1}
    settings["train_seed"] = list(RECIPES).index(key)  # no run is another's, known to the host
    if "prior_count" in settings:
        settings["prior_count"] = 2
    return replace(recipe, settings=settings)


@pytest.fixture
def quick_pictures(monkeypatch):
    monkeypatch.setitem(demo.DRAWING, "steps", 3)


@pytest.mark.server
@pytest.mark.parametrize("key", [key for key, recipe in RECIPES.items() if recipe.learns])
def test_every_method_of_the_table_runs(key, server, jury, quick_pictures) -> None:
    task = Task(thing(4), 2)
    told: list[str] = []
    prompts = prompts_for(task.subject, 1)
    if key not in recipes_for(server.client.object_info()):
        pytest.skip("There is no encoder beside the miniature's weights.")
    shown = show(server.client, jury, shortened(key), task, prompts, told.append)
    assert [picture.shape for picture in shown.pictures] == [(128, 128, 3)]
    assert -1 <= shown.scores[0].likeness <= 1
    assert RECIPES[key].encoder or "step 2/2" in told
    assert "drawing picture 1" in told


@pytest.mark.server
def test_the_class_word_needs_no_training(server, jury, quick_pictures) -> None:
    task = Task(face(6), 1)
    prompts = prompts_for(task.subject, 2)
    shown = show(server.client, jury, RECIPES["class"], task, prompts, lambda text: None)
    assert len(shown.scores) == 2 and not torch.equal(*shown.pictures)


@pytest.mark.server
@pytest.mark.parametrize("size", [(64, 64), (192, 128), (256, 256)])
def test_unknown_words_and_other_sizes_give_a_picture(size, server) -> None:
    width, height = size
    workflow = {"base": demo.node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)}
    workflow |= demo.drawing("base", f"a zorgle mug in the qwxyz {width}", "draw", seed=0)
    workflow["draw_latent"]["inputs"] |= {"width": width, "height": height}
    workflow["draw_sample"]["inputs"]["steps"] = 3
    run = server.client.run(workflow)
    picture = demo.fetch(server.client, run.outputs["draw"]["images"][0])
    assert picture.shape == (height, width, 3)
    assert float(picture.std()) > 0.02


@pytest.mark.server
def test_a_damaged_checkpoint_is_an_error_and_the_server_goes_on(server) -> None:
    from personalize.cli.client import RunError

    folder = server.base_directory / "models" / "checkpoints"
    (folder / "cut.safetensors").write_bytes((WEIGHTS / CHECKPOINT).read_bytes()[:200_000])
    workflow = {"base": demo.node("CheckpointLoaderSimple", ckpt_name="cut.safetensors")}
    workflow |= demo.drawing("base", "a mug", "draw", seed=0)
    with pytest.raises(RunError, match="CheckpointLoaderSimple failed"):
        server.client.run(workflow)
    assert server.client.alive()


@pytest.mark.parametrize("name", [CHECKPOINT, VISION, JUDGES])
def test_missing_or_damaged_weights_are_told_before_a_server_starts(name, tmp_path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS, weights)
    (weights / name).write_bytes((WEIGHTS / name).read_bytes()[:100_000])
    with pytest.raises(BadWeights, match=f"{name} is damaged.*Restore it"):
        demo.prepare_base(weights, tmp_path / "base")
    (weights / name).unlink()
    with pytest.raises(BadWeights, match=f"There is no .*{name}"):
        demo.prepare_base(weights, tmp_path / "base")


def test_uploads_carry_the_mask_as_transparency() -> None:
    class Client:
        def upload_image(self, name: str, content: bytes) -> str:
            self.content = content
            return name

    client, views = Client(), thing(0).references.first(1)
    assert demo.upload(client, "thing 0", views) == ["thing-0-0.png"]  # type: ignore[arg-type]
    red, *_, alpha = Image.open(io.BytesIO(client.content)).split()
    seen = 1 - torch.from_numpy(np.array(alpha)) / 255  # as LoadImage reads it
    assert torch.allclose(seen, views.masks[0], atol=0.01)
    shown = torch.from_numpy(np.array(red)) / 255
    assert torch.allclose(shown, views.pictures[0, ..., 0], atol=0.01)


def test_table_and_sheet_have_a_line_for_every_subject_and_method() -> None:
    scores = Scores(0.5, 0.4, 0.3, 0.5, 1.0, 0.2)
    tasks = [Task(thing(0), 4), Task(face(0), 1)]
    shown = [
        Shown(task, RECIPES[key], [torch.rand(128, 128, 3)] * 2, [scores] * 2, 3.0)
        for task in tasks
        for key in ("class", "ci-fast")
    ]
    lines = demo.table(shown).splitlines()
    assert len(lines) == 2 + 4 and "mug, 4 pictures" in lines[2] and "0.50" in lines[2]
    sheet = demo.sheet(shown, [prompts_for(task.subject, 2) for task in tasks])
    assert sheet.height > 4 * 128 and sheet.width > 4 * 128


def test_sheets_of_uneven_rows_and_of_none() -> None:
    rows = [Row("one", [torch.rand(64, 96, 3)]), Row("two", [torch.rand(128, 128, 3)] * 3, ["a"])]
    assert draw_sheet("title", ["a very long prompt that wraps " * 3], rows).width > 3 * 128
    with pytest.raises(ValueError, match="at least one row"):
        draw_sheet("title", [], [])


def test_methods_without_a_node_are_left_out() -> None:
    assert set(recipes_for(["PersonalizeTrainCatVersion"])) == {"class", "described", "catversion"}


def test_prompts_name_the_subject_as_each_method_was_taught() -> None:
    assert RECIPES["ci"].name(thing(4)) == "<it> fish"
    assert RECIPES["ci"].name(face(0)) == "face of <it> person"
    assert RECIPES["class"].name(thing(4)) == "fish"
    assert RECIPES["described"].name(thing(4)) == thing(4).described
    inputs = RECIPES["ci"].inputs(face(0))
    assert inputs["init_from"] == "names" and inputs["class_word"] == "person"
    assert RECIPES["ti"].inputs(thing(4))["init_word"] == "fish"
