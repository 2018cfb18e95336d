"""The benchmark command against a real server: killed in the middle, then run again."""

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest
from personalize.cli.benchmark import main
from personalize.tests.score_models import write_clip, write_dino
from PIL import Image

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DREAMBENCH = ROOT.parent / "shared" / "data" / "dreambench"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two subjects, one of them with masks, and two prompts."""
    root = tmp_path_factory.mktemp("subjects")
    for name, colour in (("ball", "red"), ("cube", "blue")):
        (root / name).mkdir()
        for number in range(2):
            size = (80, 80 + 16 * number)
            Image.new("RGB", size, colour).save(root / name / f"0{number}.png")
            if name == "cube":
                mask = Image.new("L", size)
                mask.paste(255, (10, 10, 60, 60))
                mask.save(root / name / f"0{number}_mask.png")
        (root / name / "class.txt").write_text(name)
    (root / "prompts.txt").write_text("a photo of a {}\na {} in the snow\n")
    return root


@pytest.fixture(scope="module")
def command(server, data, tmp_path_factory):
    """Arguments but the methods, and the folder of the results."""
    models = server.base_directory / "models" / "clip_metrics"
    write_clip(models / "bench-clip")
    write_clip(models / "bench-clip-b32", patch=16, width=16)
    write_dino(models / "bench-dino")
    output = tmp_path_factory.mktemp("results")
    tiny = "--checkpoint tiny_sd1.safetensors --resolution 64 --steps 1 --sampling-steps 1"
    return [
        str(data), "--output", str(output), "--address", server.base_url,
        "--prompts", str(data / "prompts.txt"), "--clip", "bench-clip", "--images", "1",
        *tiny.split(),
    ], output  # fmt: skip


def files(output):
    return {path: path.stat().st_mtime_ns for path in output.rglob("prompt*.json")}


def test_killed_and_run_again_it_goes_on_where_it_was(server, command, capsys):
    arguments, output = command
    arguments = [*arguments, "--only", "ball", "--methods", "CatVersion"]
    tool = [sys.executable, str(ROOT / "cli" / "run.py"), "benchmark"]
    first = subprocess.Popen([*tool, *arguments], stdout=subprocess.DEVNULL)
    while not files(output):
        assert first.poll() is None, "it ended before it had written a file"
        time.sleep(0.05)
    first.kill()
    first.wait()
    done = files(output)
    concepts = list((server.base_directory / "output" / "concepts").rglob("*.safetensors"))

    assert main(arguments) == 0
    after = files(output)
    assert len(after) == 2 and done.items() <= after.items()
    learned = "learned in" in capsys.readouterr().out
    assert not learned
    assert list((server.base_directory / "output" / "concepts").rglob("*.safetensors")) == concepts
    assert (output / "index.html").is_file()

    assert main(arguments) == 0  # all is done: nothing is asked, the page is written again
    assert files(output) == after

    assert main([*arguments, "--negative", "dull"]) == 0  # other pictures, the same concept
    assert all(files(output)[path] > when for path, when in after.items())
    out = capsys.readouterr().out
    assert "learned in" not in out


def test_all_scores_of_a_subject_with_masks(command, capsys):
    arguments, output = command
    chosen = ["--only", "cube", "--methods", "untouched", "CrossInit", "--dino", "bench-dino"]
    assert main([*arguments, *chosen, "--prompt-count", "1", "--seeds", "0", "1"]) == 0
    with (output / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["method"], r["seed"]) for r in rows] == [
        ("Untouched", "0"), ("Untouched", "1"), ("CrossInit", "0"), ("CrossInit", "1"),
    ]  # fmt: skip
    scores = ["CLIP-T", "CLIP-I", "CLIP-I(FG)", "DINO-I", "DINO-I(FG)"]
    assert list(rows[0])[-5:] == scores
    assert all(-1 <= float(row[name]) <= 1 for row in rows for name in scores)
    assert rows[2]["steps"] == "1" and float(rows[2]["train_seconds"]) > 0
    assert all((output / row["picture"]).read_bytes().startswith(b"\x89PNG") for row in rows)
    assert "[1/4] cube, Untouched, seed 0: a photo of a {}" in capsys.readouterr().out


@pytest.mark.skipif(not DREAMBENCH.is_dir(), reason=f"There are no photographs in {DREAMBENCH}.")
def test_the_photographs_of_dreambench_as_they_come(server, command, tmp_path):
    """The mechanics: real pictures, its own classes and prompts, a model of random weights."""
    arguments, _output = command
    data = arguments.index("--prompts")
    chosen = [
        str(DREAMBENCH),
        "--output",
        str(tmp_path),
        *arguments[3:data],
        *arguments[data + 2 :],
    ]
    chosen += ["--only", "dog6", "teapot", "--methods", "untouched", "CatVersion"]
    assert main([*chosen, "--prompt-count", "2"]) == 0
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["subject"], row["method"]) for row in rows} == {
        (subject, method)
        for subject in ("dog6", "teapot")
        for method in ("Untouched", "CatVersion")
    }
    assert len(rows) == 8 and all(float(row["CLIP-T"]) for row in rows)
    assert {row["prompt"] for row in rows} == {"a {} in the jungle", "a {} in the snow"}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "dog6" in page and "teapot" in page


def test_two_clips_score_side_by_side(command, capsys):
    """As ViT-L/14 and ViT-B/32 would: of other patches, widths and scores."""
    arguments, output = command
    chosen = ["--only", "cube", "--methods", "untouched", "--prompt-count", "1"]
    assert main([*arguments, *chosen, "--second-clip", "bench-clip-b32"]) == 0
    out = capsys.readouterr().out
    (row,) = csv.DictReader((output / "results.csv").open(newline=""))
    for name in ("CLIP-T", "CLIP-I", "CLIP-I(FG)"):
        both = row[name], row[f"{name} (bench-clip-b32)"]
        assert both[0] != both[1] and all(-1 <= float(value) <= 1 for value in both)
    assert "CLIP-T 0." in out.replace("-0.", "0.") and "CLIP-T (bench-clip-b32)" in out
    page = (output / "index.html").read_text(encoding="utf-8")
    assert "scored by bench-clip and bench-clip-b32" in page
    assert "<b>CLIP-T (bench-clip-b32)</b>: follows the prompt" in page


def test_a_concept_that_the_server_has_lost_is_learned_again(server, command, capsys):
    arguments, _output = command
    chosen = [*arguments, "--only", "ball", "--methods", "CatVersion", "--prompt-count", "1"]
    assert main(chosen) == 0
    for path in (server.base_directory / "output" / "concepts").rglob("ball-CatVersion*"):
        path.unlink()
    capsys.readouterr()
    assert main(chosen) == 0
    assert "learned in" in capsys.readouterr().out


@pytest.mark.parametrize("change, told", [
    (["--checkpoint", "gone.safetensors"], "--checkpoint gone.safetensors: the server does not li"),
    (["--clip", "gone"], "--clip gone: the server does not list it. It has: "),
    (["--clip-vision", "gone.safetensors"], "--clip-vision gone.safetensors"),
    (["--methods", "DreamBooth"], "No method DreamBooth. The server has: Untouched, "),
    (["--methods", "ELITE"], "ELITE needs --elite-global and --elite-local"),
    (["--steps", "Dream=4"], "--steps or --set names Dream, which is no method"),
    (["--only", "gone"], "no subject gone in"),
])  # fmt: skip
def test_what_cannot_be_is_told_before_anything_is_done(command, capsys, change, told):
    arguments, output = command
    before = files(output)
    with pytest.raises(SystemExit):
        main([*arguments, *change])
    assert told in capsys.readouterr().err
    assert files(output) == before


def test_a_failing_job_does_not_stop_the_others(command, capsys):
    arguments, _output = command
    bad = ["--only", "ball", "--methods", "TextualInversion", "Untouched", "--prompt-count", "1"]
    too_long = f"TextualInversion.templates={'very ' * 80}{{}}"
    assert main([*arguments, *bad, "--set", too_long]) == 1
    out = capsys.readouterr().out
    assert (
        "failed: ball, TextualInversion, seed 0: PersonalizeTrainTextualInversion failed: " in out
    )
    assert "ball, Untouched, seed 0" in out


def test_without_a_server_it_says_so(command, capsys):
    arguments, _ = command
    assert main([*arguments, "--address", "http://127.0.0.1:9"]) == 2
    out = capsys.readouterr().out
    assert "The ComfyUI at http://127.0.0.1:9 does not answer" in out and "go on" in out
