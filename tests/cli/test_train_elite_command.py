"""The command line that trains ELITE encoders: one process, two processes, folders, what it leaves.

Each run is a process of its own, as a user's is.
"""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from personalize.concepts.elite import stage_tensors
from personalize.concepts.elite_files import load_encoder
from PIL import Image
from safetensors import safe_open

pytestmark = [pytest.mark.host, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
PACK = """
from personalize.tests import host_models
from personalize.tests.elite_models import clip_vision

def load_clip_vision(path):
    return clip_vision()
"""
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A host pack that knows the tiny shapes, and five pictures with masks."""
    base = tmp_path_factory.mktemp("elite")
    (base / "pack").mkdir()
    (base / "pack" / "__init__.py").write_text(PACK)
    (base / "vision.safetensors").touch()
    (base / "pictures").mkdir()
    generator = torch.Generator().manual_seed(3)
    for n in range(5):
        pixels = torch.randint(256, (64, 64, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(base / "pictures" / f"{n}.png")
        mask = torch.zeros(64, 64, dtype=torch.uint8)
        mask[8 * n : 8 * n + 24] = 255
        Image.fromarray(mask.numpy()).save(base / "pictures" / f"{n}_mask.png")
    return base


def command(folder, tiny, output, *more, launcher=()):
    models = ["--checkpoint", tiny.path, "--clip-vision", folder / "vision.safetensors"]
    run = [ROOT / "cli" / "run.py", "train_elite", "--cpu", "--host-pack", folder / "pack"]
    small = ["--resolution", "64", "--batch-size", "4", "--precision", "fp32", "--threads", "1"]
    places = ["--data", folder / "pictures", "--output", output, "--sample-every", "0"]
    line = [sys.executable, *launcher, *run, *models, *small, *places, *more]
    return subprocess.run([str(word) for word in line], capture_output=True, text=True, check=False)


def test_two_processes_learn_as_one_and_what_a_run_leaves(folder, tiny_sd1, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["--learning-rate", "0.0001", "--save-every", "1", "--log-every", "1"]
    sheets = ["--sample-every", "2", "--sample-count", "2", "--sample-steps", "1"]
    alone = command(folder, tiny_sd1, one, "--steps", "2", *options, *sheets)
    assert alone.returncode == 0, alone.stderr
    shared = command(folder, tiny_sd1, two, "--steps", "2", *options, launcher=TWO)
    assert shared.returncode == 0, shared.stderr
    encoders = [load_encoder(output / "encoder.safetensors") for output in (one, two)]
    assert [encoder.name for encoder in encoders] == ["one", "two"]
    tensors = [stage_tensors(encoder.global_stage) for encoder in encoders]
    for key, tensor in tensors[0].items():
        assert torch.allclose(tensor, tensors[1][key], atol=1e-5, rtol=0), key
    with Image.open(one / "samples" / "step_000002.png") as sheet:
        assert sheet.size == (3 * 64, 2 * 64)

    more = command(
        folder, tiny_sd1, one, "--steps", "3", "--half", "--licence", "CC0-1.0", *options
    )
    assert "step 3/3" in more.stdout and "step 2/3" not in more.stdout
    with safe_open(one / "encoder.safetensors", "pt") as file:
        assert file.metadata()["licence"] == "CC0-1.0"
    rows = list(csv.DictReader((one / "log.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["loss"]) > 0 and float(rows[0]["learning_rate"]) == 0.0001
    resumed = stage_tensors(load_encoder(one / "encoder.safetensors").global_stage)
    assert all(tensor.dtype == torch.float16 for tensor in resumed.values())
    assert any(not torch.equal(t, tensors[0][k].half()) for k, t in resumed.items())
