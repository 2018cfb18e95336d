"""The pack under its alias `personalize`, the host in this process, tiny models, and a real server.

The repository root never goes on sys.path: our `nodes` would hide the host's. Tests import the pack
as `personalize.concepts...` and the commands as `personalize.cli...`, `personalize.tools...`.

Markers: `host` needs a ComfyUI checkout (make setup), which is then importable as `comfy`,
`nodes`, `folder_paths`, on the CPU, with all its folders under a temporary base directory;
`server` needs it too and starts a server. Without a checkout both are skipped.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

ROOT = Path(__file__).resolve().parents[1]
NO_HOST = "no ComfyUI checkout: run `make setup` or set COMFYUI_PATH"

# One thread is fastest for the tiny models, and two crawl when anything else uses the processor.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Wherever a test runs it means the same: PERSONALIZE_DEVICE=cuda asks for the GPU, and `played` for
# an accelerator that is played on the CPU, in this process alone.
DEVICE = os.environ.setdefault("PERSONALIZE_DEVICE", "cpu")
PLAYED_RUN = DEVICE == "played" or (DEVICE == "cpu" and "PERSONALIZE_PLAYED" in os.environ)
EXACT = {"force_fp32": True, "fp32_vae": True}  # a GPU's host would load tiny models in 16 bits
if DEVICE != "cpu":  # nor round fp32 to TF32 in a convolution, which torch does unasked
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
if PLAYED_RUN:
    os.environ |= {"PERSONALIZE_DEVICE": "cpu", "PERSONALIZE_PLAYED": "1"}


# No test fails because the machine is busy.
hypothesis_settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("patient")

runpy.run_path(str(ROOT / "cli" / "run.py"))["register_pack"]()

from personalize.cli.comfyui import HostError, find_host, prepare_host, wants_cpu  # noqa: E402
from personalize.tools.server.server import ComfyServer, make_base_directory  # noqa: E402

HOST = find_host()
BASE_DIRECTORY = make_base_directory()
NO_DEVICE = ""  # or a sentence: PERSONALIZE_DEVICE names a GPU that is not there
if HOST is not None:
    try:
        prepare_host(None, BASE_DIRECTORY, HOST, {} if wants_cpu() else EXACT)
    except HostError as error:
        NO_DEVICE = str(error)
PLAYED = ExitStack()
if HOST is not None and PLAYED_RUN:
    from personalize.tests.played_device import host_with, played_device

    PLAYED.enter_context(host_with(PLAYED.enter_context(played_device())))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-pages", action="store_true", help="write pages made from tables")


def pytest_configure() -> None:
    if NO_DEVICE:
        raise pytest.UsageError(NO_DEVICE)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the base directory, and say last of all what was skipped."""
    PLAYED.close()
    shutil.rmtree(BASE_DIRECTORY, ignore_errors=True)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and config.option.markexpr == "not nightly":
        reporter.write_line('left out, as dear: make test ARGS="-m nightly"')
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    counts = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if counts:
        told = "; ".join(f"{count} because {reason}" for reason, count in counts.most_common())
        reporter.write_line(f"{counts.total()} SKIPPED: {told}", yellow=True)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One process more than there are cores: a test often waits for a server or a page."""
    return (yield) + 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    if HOST is None and any(m.name in ("host", "server") for m in item.iter_markers()):
        pytest.skip(NO_HOST)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """Without a host, a test module that imports it at its top is skipped, not an error."""
    report = yield
    missing = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server")
    if HOST is None and report.failed:
        text = str(report.longrepr)
        if any(f"No module named '{name}'" in text for name in missing):
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 1, NO_HOST)
    return report


@pytest.fixture(scope="session")
def host_base() -> Path:
    """Base directory of the host in this process: has input, output, temp and models/<kind>."""
    return BASE_DIRECTORY


@dataclass(frozen=True)
class TinyModels:
    """A tiny checkpoint loaded by the host, shared by all tests: clone before you patch."""

    kind: str  # one of KINDS in host_models/families.py
    path: Path  # the checkpoint, in models/checkpoints
    model: Any  # MODEL, a ModelPatcher
    clip: Any  # CLIP
    vae: Any  # VAE


def load_tiny(path: Path, kind: str) -> TinyModels:
    """Load a tiny checkpoint as CheckpointLoaderSimple does, in inference mode."""
    import torch
    from comfy.sd import load_checkpoint_guess_config
    from folder_paths import get_folder_paths
    from personalize.tests import host_models

    host_models.register()
    with torch.inference_mode():
        model, clip, vae, _ = load_checkpoint_guess_config(
            str(path), embedding_directory=get_folder_paths("embeddings")
        )
    return TinyModels(kind, path, model, clip, vae)


def _tiny(kind: str) -> TinyModels:
    if HOST is None:
        pytest.skip(NO_HOST)
    from personalize.tests import host_models

    path = BASE_DIRECTORY / "models" / "checkpoints" / f"tiny_{kind}.safetensors"
    return load_tiny(host_models.make_checkpoint(path, kind), kind)


@pytest.fixture(scope="session")
def tiny_sd1() -> TinyModels:
    """Text width 64, clip_l, last layer; epsilon prediction."""
    return _tiny("sd1")


@pytest.fixture(scope="session")
def tiny_sd2() -> TinyModels:
    """Text width 96, clip_h, last but one layer, pad token 0; epsilon prediction."""
    return _tiny("sd2")


@pytest.fixture(scope="session")
def tiny_sd2v() -> TinyModels:
    """As tiny_sd2, with v-prediction."""
    return _tiny("sd2v")


@pytest.fixture(scope="session")
def tiny_sdxl() -> TinyModels:
    """Text width 64 + 96, clip_l and clip_g, last but one layers, pads 49407 and 0; pooled and
    sizes in the UNet; epsilon prediction."""
    return _tiny("sdxl")


@pytest.fixture(scope="session")
def tiny_sdxlv() -> TinyModels:
    """As tiny_sdxl, with v-prediction and a last timestep that is noise alone."""
    return _tiny("sdxlv")


@pytest.fixture
def tiny_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of Stable Diffusion XL has the parts of tiny_sdxl's, for files that hold them apart.

    The published widths stand in its base, since nothing else tells where such a word is cut.
    """
    from dataclasses import replace

    from personalize.concepts.bases import BASES

    small = replace(BASES["sdxl"], encoders=(("clip_l", 64), ("clip_g", 96)), context_width=160)
    monkeypatch.setitem(BASES, "sdxl", small)


@pytest.fixture(scope="module", autouse=True)
def weights_of_their_own() -> None:
    """No file of tests finds shared models as another one's clone left them: with its patches."""
    if "comfy.model_management" in sys.modules:
        import torch
        from comfy.model_management import unload_all_models

        with torch.inference_mode():
            unload_all_models()


@pytest.fixture
def fresh_sd1(tiny_sd1: TinyModels) -> TinyModels:
    """As tiny_sd1, loaded for this test alone, which may break it."""
    return load_tiny(tiny_sd1.path, "sd1")


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets the host move weights whenever it loads a model; names of what it has loaded."""
    from personalize.tests.moving_host import host_that_moves

    return host_that_moves(monkeypatch)


@pytest.fixture(params=["tiny_sd1", "tiny_sd2", "tiny_sd2v"])
def tiny(request: pytest.FixtureRequest) -> TinyModels:
    """Each model with one text encoder in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["tiny_sd1", "tiny_sd2", "tiny_sdxl"])
def tiny_base(request: pytest.FixtureRequest) -> TinyModels:
    """A model of each base in turn, for what the kind of prediction says nothing about."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["tiny_sd1", "tiny_sd2", "tiny_sd2v", "tiny_sdxl", "tiny_sdxlv"])
def every_tiny(request: pytest.FixtureRequest) -> TinyModels:
    """Each of them in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def server() -> Iterator[ComfyServer]:
    """A running ComfyUI with this pack, a tiny model of each kind, and the miniature."""
    if HOST is None:
        pytest.skip(NO_HOST)
    from personalize.tests import host_models
    from personalize.tools.demo import PACKS
    from personalize.tools.examples.miniature_examples import base_for_examples

    base = base_for_examples(make_base_directory())
    for kind in host_models.KINDS:
        path = base / "models" / "checkpoints" / f"tiny_{kind}.safetensors"
        host_models.make_checkpoint(path, kind)
    packs = {**PACKS, "tiny_models": ROOT / "tests" / "host_models"}
    try:
        with ComfyServer(HOST, base, packs) as running:
            yield running
    finally:
        shutil.rmtree(base, ignore_errors=True)
