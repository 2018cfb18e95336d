"""The GPU bench in small, on the CPU: the same way as on a GPU."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from personalize.bench import gpu
from personalize.bench.on_gpu import bare, runs, stages
from personalize.bench.on_gpu.models import Size
from personalize.bench.on_gpu.report import State, Table, page
from personalize.bench.on_gpu.runs import StepClock, difference, run
from personalize.bench.on_gpu.stages import Bench, Clock, Skipped, timed
from personalize.cli.client import Message
from personalize.cli.comfyui import DEVICE, has_gpu
from personalize.tools import pack_gpu
from personalize.tools.server.server import ServerError
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
OWN = {"main.py", "comfy/ops.py", "comfy/ldm/models/autoencoder.py"}  # files of a ComfyUI
SOME = ("Train Textual Inversion", "Train ELITE Encoder, local")


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_it_would_do(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv(DEVICE)
    assert gpu.main(["--output", str(tmp_path / "gpu.md")]) == 0
    told = capsys.readouterr().out
    for part in gpu.parts(gpu.TESTS, 64):
        assert part.about in told
    assert not list(tmp_path.iterdir())


def test_an_unknown_part_is_told(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--only", "nonsense"])
    assert "no such part: nonsense; there are default, " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.server
def test_the_whole_way_in_small(monkeypatch, tmp_path):
    """Two of the methods, which have all that the others have: words, an encoder, two stages."""
    every = stages.methods
    monkeypatch.setattr(stages, "methods", lambda *a: [m for m in every(*a) if m[0] in SOME])
    file = tmp_path / "gpu.md"
    words = [
        "--cpu",
        "--tiny",
        "--steps",
        "3",
        "6",
        "--minutes",
        "60",
        "--only",
        "default",
        "tests",
    ]
    tests = f"{ROOT / 'tests' / 'cli' / 'test_run.py'} -k listed"
    assert gpu.main([*words, "--tests", tests, "--output", str(file)]) == 0, file.read_text()
    text = file.read_text(encoding="utf-8")
    for name in SOME:
        assert text.count(f"| {name} | works |") == 3  # as it is, bf16, fp32
        assert f"| {name} | equal | equal |" in text  # again, and the models after it
        assert f"| {name} | equal |\n" in text  # cancelled and resumed
    assert "## precision bf16" in text and "| 1 passed" in text
    assert ", 0 failed, 0 were not reached in time." in text and "Not begun" not in text


def test_it_takes_no_longer_than_promised_by_its_own_estimate():
    assert gpu.estimate(gpu.parts(gpu.TESTS, 64)) <= 60 * gpu.MINUTES


@pytest.mark.server
def test_the_estimate_knows_how_many_methods_there_are(server):
    assert len(list(stages.methods(server.client.object_info(), gpu.TINY))) == gpu.METHODS


@pytest.mark.host
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_the_page_is_there_whatever_ends_the_bench(monkeypatch, tmp_path, host_base):
    def ends(bench):
        table = bench.table("One", ("what",))
        table.add("measured")
        signal.raise_signal(signal.SIGTERM)
        table.add("never")

    several = [gpu.Part(name, "", ends) for name in ("one", "two", "three")]
    monkeypatch.setattr(gpu, "parts", lambda *_: several)
    monkeypatch.setattr(gpu, "prepare_host", lambda *_: None)
    monkeypatch.setattr(Size, "make", lambda *_: None)
    file, before = tmp_path / "gpu.md", signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        gpu.main(["--cpu", "--tiny", "--output", str(file)])
    text = file.read_text(encoding="utf-8")
    assert "| measured |" in text and "never" not in text
    assert "Not begun when this page was written: two, three." in text
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("left", "wanted"), [(0.0, 10.0), (50.0, 50.0), (1e4, 600.0)])
def test_a_server_that_hangs_takes_no_longer_than_there_is_time(
    monkeypatch, tmp_path, left, wanted
):
    waited = []

    class Hanging:
        def __init__(self, *_):
            pass

        def start(self, seconds):
            waited.append(seconds)
            raise ServerError("No answer.")

        def stop(self):
            pass

    monkeypatch.setattr(stages, "ComfyServer", Hanging)
    bench = Bench(tmp_path, tmp_path, gpu.TINY, Clock(left + 5), kept=5)
    with pytest.raises(Skipped), bench.server(bench.table("part", ("what", "error"))):
        pass
    assert waited == [pytest.approx(wanted, abs=1)]


def test_a_workflow_that_hangs_takes_no_longer_either(monkeypatch):
    asked = []

    class Silent:
        running, client = True, None

        def run(self, workflow, on_message, patience):
            asked.append(patience)
            raise TimeoutError("nothing heard")

        get = staticmethod(lambda path: b'{"peak": 1.0}')
        kill = staticmethod(lambda: None)
        start = staticmethod(asked.append)

    silent = Silent()
    silent.client = silent
    monkeypatch.setattr(runs, "wants_cpu", lambda: False)
    for left in (0.0, 33.0, 1e4):
        assert run(silent, {}, left=left).error == "nothing heard"
    assert asked == [10.0, 10.0, 33.0, 33.0, 120.0, 120.0]


@pytest.mark.server
def test_a_workflow_that_fails_is_a_row(server):
    broken = {"train": {"class_type": "PersonalizeTrainDETEX", "inputs": {}}}
    outcome = run(ServerWithMemory(server), broken)
    assert not outcome.ok and "/api/prompt: 400" in outcome.error and not outcome.interrupted
    assert server.running


class ServerWithMemory:
    """The tests' server has no route of the bench's pack."""

    def __init__(self, server):
        self.client = ClientWithMemory(server.client)
        self.running = server.running

    def kill(self):
        self.ended = True

    def start(self, seconds):
        pass


class ClientWithMemory:
    def __init__(self, client):
        self.run = client.run

    def get(self, path):
        return b'{"peak": 1.0}'


@pytest.mark.host
def test_a_server_that_does_not_start_is_a_row(tmp_path, host_base):
    (tmp_path / "main.py").write_text("raise SystemExit('this card is too old')")
    bench = Bench(tmp_path, tmp_path / "base", gpu.TINY, Clock(60.0))
    bench.base.mkdir()
    table = bench.table("part", ("what", "error", "more"))
    with pytest.raises(Skipped), bench.server(table):
        pass
    (row,) = table.rows
    assert row.state is State.FAILED and "this card is too old" in row.cells[1]
    assert len(row.cells) == 3


def test_a_fault_of_a_part_is_a_row_too(tmp_path):
    bench = Bench(tmp_path, tmp_path, gpu.TINY, Clock(60.0))
    gpu.attempt(gpu.Part("odd", "", lambda bench: [][0]), bench)
    assert bench.tables[0].rows[0].cells == ("IndexError: list index out of range",)


def test_what_time_does_not_reach_is_told(tmp_path):
    bench = Bench(tmp_path, tmp_path, gpu.TINY, Clock(0.0))
    gpu.attempt(gpu.Part("other", "", stages.other_server("--novram")), bench)
    assert "Not reached in time." in page([], bench.tables, "tiny", 1.0)


def test_the_page_counts_and_names_failures():
    one, two = Table("One", ("what", "result")), Table("Two", ("what", "result"))
    one.add("a | b", "works")
    one.add("c", failed=True)
    two.add("d", "not reached", skipped=True)
    text = page(["a card"], [one, two], "tiny", 2.0)
    assert "1 of 3 rows went well, 1 failed, 1 were not reached in time." in text
    assert "Failed under *One*: c." in text
    assert "- a card" in text and "| a / b | works |" in text and "| c | - |" in text


def test_a_step_is_timed_between_the_first_and_the_last_message(monkeypatch):
    times = iter([10.0, 10.5, 11.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = StepClock()
    for node, value in (("train", 1), ("other", 9), ("train", 2), ("train", 4)):
        clock(Message("progress", {"node": node, "value": value}))
    assert clock.step == pytest.approx(500.0)
    assert clock.around(9.0, 14.0) == pytest.approx((1.0, 2.5))
    assert StepClock().step is StepClock().around(0.0, 1.0) is None
    clock.told = {1: 0.0, 2: 9.0, 3: 18.0, 4: 19.0, 5: 20.0, 6: 21.0}  # slow until it is warm
    assert clock.step == pytest.approx(1000.0)


@pytest.mark.host
def test_the_setting_that_replays_is_the_trainings_own():
    from personalize.training.replay import SETTING

    assert stages.REPLAY == SETTING


def test_differences_of_files(tmp_path):
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 1.25)):
        save_file({"word": torch.full((2,), value)}, tmp_path / name)
    save_file({"other": torch.ones(2)}, tmp_path / "d")
    told = [difference(tmp_path / "a", tmp_path / name) for name in "bcd"]
    assert told == ["equal", "2.5e-01 apart", "other tensors"]


def test_what_a_command_prints_is_heard():
    assert timed([sys.executable, "-c", "print(2)"], 600.0, {}) == (0, ["2"])


# --- a bare machine ---------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    """A wheel of one module, and an archive of a ComfyUI."""
    folder, host = tmp_path / "packed", tmp_path / "host"
    (folder / bare.WHEELS).mkdir(parents=True)
    with zipfile.ZipFile(folder / bare.WHEELS / "only_there-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("only_there.py", "ANSWER = 42\n")
    for name in (*OWN, ".git/config", "models/checkpoints/huge.bin"):
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_text("pass\n")
    pack_gpu.pack_host(host, folder / bare.HOST_ARCHIVE)
    return folder


def test_what_was_packed_is_there_after_unpacking(packed, tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    known = bare.unpacked(packed, tmp_path / "here")
    host = Path(known["COMFYUI_PATH"])
    files = {str(p.relative_to(host)) for p in host.rglob("*") if p.is_file()}
    assert files == OWN
    line = [sys.executable, "-c", "import only_there; print(only_there.ANSWER)"]
    done = subprocess.run(line, env=known, capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


def test_a_stand_in_for_pyav_lets_the_host_start(tmp_path):
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text(bare.STAND_IN)
    as_the_host_does = """
import av
from av.container import InputContainer
from av.subtitles.stream import SubtitleStream
from av.video.reformatter import ColorRange
def load(video: av.VideoFrame | None = None, kind=ColorRange.MPEG) -> InputContainer: ...
class Mine(InputContainer): ...
try:
    raise ValueError
except (av.error.InvalidDataError, ValueError):
    print("started")
"""
    line = [sys.executable, "-c", as_the_host_does]
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "started\n", done.stderr


def test_one_command_of_at_most_2000_characters_runs_it_there():
    command = pack_gpu.COMMAND.format(folder=".gpu")
    assert len(command) <= 2000
    words = command.split()[3:]
    assert words[:2] == ["--packed", ".gpu"]
    assert gpu.without_packed(words) == ["--output", "gpu.md"]
    assert gpu.without_packed(["--packed=.gpu", "--cpu"]) == ["--cpu"]
