"""Replayed steps train what steps without a graph train, with a graph played on the CPU."""

import logging
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from personalize.tests.trainers import TRAINERS, run_trainer
from personalize.tests.training.recorded_graph import NotCapturable, record
from personalize.training import loop, replay
from personalize.training.replay import CHECKED_REPLAYS, EAGER_STEPS, Replayed
from torch import Tensor

pytestmark = pytest.mark.host
STEPS = EAGER_STEPS + CHECKED_REPLAYS + 2  # two of them by replay alone


@pytest.fixture
def recorded(monkeypatch):
    """Training replays; the list fills with what ran: captures and replays."""
    seen = []

    def capture(step):
        results, run = record(step)
        seen.append("capture")

        def noted():
            seen.append("replay")
            run()

        return results, noted

    monkeypatch.setattr(loop, "capture_for", lambda backbone: capture)
    return seen


@pytest.mark.parametrize("trainer", TRAINERS)
def test_replayed_steps_train_the_same_bits(tiny_sd1, trainer, recorded, monkeypatch):
    settings = {"steps": STEPS, "precision": "fp32"}
    replayed = run_trainer(trainer, tiny_sd1, **settings)
    assert recorded == ["capture"] + ["replay"] * (STEPS - EAGER_STEPS)
    monkeypatch.setattr(loop, "capture_for", lambda backbone: None)
    assert replayed.equals(run_trainer(trainer, tiny_sd1, **settings))


def test_parts_of_a_batch_and_weights_that_move(tiny_sd1, recorded, monkeypatch):
    """3 pictures in parts of 1 and 2, each captured; all of it again after a pause."""
    settings = {"steps": 2 * STEPS, "batch_size": 3, "micro_batch": 2, "precision": "fp32"}

    def pause(report):
        if report.step == STEPS:
            with report.backbone.paused():
                recorded.append("pause")

    replayed = run_trainer("custom diffusion", tiny_sd1, pause, **settings)
    before, after = recorded[: recorded.index("pause")], recorded[recorded.index("pause") + 1 :]
    assert before == after and before.count("capture") == 2
    monkeypatch.setattr(loop, "capture_for", lambda backbone: None)
    assert replayed.equals(run_trainer("custom diffusion", tiny_sd1, pause, **settings))


@dataclass(frozen=True)
class Inputs:
    x: Tensor
    other: Tensor | None = None


def inputs(value, size=2):
    return Inputs(torch.full((size,), float(value)))


def run_many(replayed, *values):
    return [replayed(inputs(value))[0].tolist() for value in values]


def test_each_layout_has_its_recording():
    replayed = Replayed(lambda given: [given.x * 2], torch.float32, record)
    for size in (2, 3):
        for value in range(6):
            assert replayed(inputs(value, size))[0].tolist() == [2.0 * value] * size
    assert len(replayed._recordings) == 2
    replayed.forget()
    assert not replayed._recordings


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda given: [given.x * given.x.sum().item()], "could not be captured"),
        (lambda given: [given.x + torch.tensor(given.x.tolist())], "apart"),
    ],
    ids=["reads the device", "freezes a number"],
)
def test_what_no_graph_can_do_goes_on_without(step, reason, caplog):
    with caplog.at_level(logging.WARNING):
        found = run_many(Replayed(step, torch.float32, record), *range(1, 8))
    assert found == [step(inputs(value))[0].tolist() for value in range(1, 8)]
    assert len(caplog.records) == 1 and reason in caplog.text


def test_an_overflow_is_no_difference():
    """A step of fp16 whose gradients overflow tells nothing about its replay."""
    replayed = Replayed(lambda given: [1 / given.x], torch.float16, record)
    run_many(replayed, 1, 1)
    assert run_many(replayed, 0, 0, 2, 4, 8)[2:] == [[0.5] * 2, [0.25] * 2, [0.125] * 2]
    assert replayed.overwrites


def test_only_a_setting_lets_steps_be_replayed_and_only_on_cuda(monkeypatch):
    class Somewhere:
        def __init__(self, device):
            self.device = torch.device(device)

    def found(device, text):
        backbone = Somewhere(device)
        backbone.text = Somewhere(text)
        return replay.capture_for(backbone)

    monkeypatch.delenv(replay.SETTING, raising=False)
    assert found("cuda", "cuda") is None
    monkeypatch.setenv(replay.SETTING, "1")
    assert found("cuda", "cuda") is replay.capture_on_cuda
    assert found("cpu", "cpu") is None and found("cuda", "cpu") is None
    with pytest.raises(NotCapturable):
        record(lambda: [torch.tensor(float(torch.ones(1).item()))])


class Cuda:
    """What a capture asks of `torch.cuda`, without a GPU; its captures end with an error or not."""

    OutOfMemoryError = torch.cuda.OutOfMemoryError

    def __init__(self):
        self.now, self.streams, self.error = "own", 0, None

    def current_device(self):
        return 0

    def current_stream(self):
        return SimpleNamespace(name=self.now, wait_stream=lambda other: None)

    def Stream(self, device):
        self.streams += 1
        return SimpleNamespace(name="side", wait_stream=lambda other: None)

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: None)

    @contextmanager
    def stream(self, stream):
        before, self.now = self.now, stream.name
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        self.now = stream.name  # torch's own leaves it there when a capture fails
        yield
        if self.error:
            raise self.error
        self.now = "own"


@pytest.fixture
def cuda(monkeypatch):
    replay._capture_stream.cache_clear()
    monkeypatch.setattr(replay.torch, "cuda", Cuda())
    yield replay.torch.cuda
    replay._capture_stream.cache_clear()


def test_captures_share_a_stream_and_leave_it(cuda):
    """Libraries keep a work space for each stream, and the host must not go on in another."""
    seen = []
    for error in (None, RuntimeError("a capture that failed"), None):
        cuda.error = error
        with pytest.raises(RuntimeError) if error else nullcontext():
            replay.capture_on_cuda(lambda: seen.append(cuda.now) or [])
        assert cuda.now == "own"
    assert seen == ["side"] * 6 and cuda.streams == 1


def test_a_step_that_has_no_room_beside_a_graph_goes_on_without(caplog):
    ran, lacking = [], []

    def step(given):
        ran.append(given)
        if lacking:
            raise lacking.pop()
        return [given.x * 2]

    replayed = Replayed(step, torch.float32, record)
    run_many(replayed, 1, 2, 3)
    lacking.append(torch.cuda.OutOfMemoryError("the graph has it"))
    with caplog.at_level(logging.WARNING):
        assert run_many(replayed, 4, 5) == [[8.0] * 2, [10.0] * 2]
    assert "too little memory for a step beside it" in caplog.text and not replayed._recordings
    lacking.append(torch.cuda.OutOfMemoryError("and now the step alone"))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run_many(replayed, 6)
