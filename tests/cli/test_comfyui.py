"""Which ComfyUI there is, and what it computes on."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from personalize.cli import comfyui
from personalize.cli.comfyui import (
    DEVICE,
    HostError,
    OnCpu,
    checkout_version,
    find_host,
    needed_host,
    wants_cpu,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[True, False], ids=["gpu", "no gpu"])
def gpu(request, monkeypatch):
    monkeypatch.setattr(comfyui, "has_gpu", lambda: request.param)
    monkeypatch.delenv(DEVICE)
    return request.param


def test_the_gpu_is_taken_where_there_is_one(gpu, monkeypatch):
    assert wants_cpu() is not gpu
    monkeypatch.setenv(DEVICE, "cpu")
    assert wants_cpu()


def test_a_gpu_that_is_asked_for_must_be_there(gpu, monkeypatch):
    monkeypatch.setenv(DEVICE, "cuda")
    if gpu:
        assert not wants_cpu()
    else:
        with pytest.raises(HostError, match="PERSONALIZE_DEVICE is cuda, but torch sees no GPU"):
            wants_cpu()


def test_the_option_keeps_a_command_off_the_gpu(gpu, monkeypatch):
    monkeypatch.setenv(DEVICE, "cuda")  # undone by the test
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", action=OnCpu)
    parser.parse_args(["--cpu"])
    assert wants_cpu()


def test_tests_say_that_there_is_no_gpu():
    if comfyui.has_gpu():
        pytest.skip("there is a GPU")
    line = [sys.executable, "-m", "pytest", "--collect-only", "-q", str(Path(__file__))]
    done = subprocess.run(
        line, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, DEVICE: "cuda"},
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "PERSONALIZE_DEVICE is cuda, but torch sees no GPU here." in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_folder_that_is_no_comfyui_is_told(monkeypatch, tmp_path):
    assert checkout_version(tmp_path) is None
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(HostError, match="there is no ComfyUI"):
        find_host()
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.99.1"\n')
    assert checkout_version(tmp_path) == "0.99.1"
    assert find_host() == needed_host() == tmp_path.resolve()
    monkeypatch.setattr(comfyui, "find_host", lambda: None)
    with pytest.raises(HostError, match="There is no ComfyUI: run `make setup`"):
        needed_host()
