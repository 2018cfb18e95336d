"""What a node shows while it works: a bar in few moves, a line for the right tab."""

import io
from types import SimpleNamespace

import pytest
import torch
from personalize.host import browsers, progress
from personalize.host.progress import MOVES, TOLD, NodeProgress, jpeg, show_on_node
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture
def bar(monkeypatch):
    """What the host's bar was told."""
    told = []

    class Bar:
        def __init__(self, total, node_id):
            told.append(("made", total, node_id))

        def update_absolute(self, value, preview=None):
            told.append((value, preview))

    monkeypatch.setattr(progress, "ProgressBar", Bar)
    return told


@pytest.fixture
def lines(monkeypatch):
    sent = []
    monkeypatch.setattr(progress, "tell_browsers", lambda *a, **more: sent.append((*a, more)))
    return sent


def test_the_bar_moves_a_few_times_however_long_it_takes(bar):
    shown = NodeProgress(1000, "7")
    for step in range(1001):
        shown.update(step)
    assert bar[0] == ("made", 1000, "7")
    assert [value for value, _ in bar[1:]] == list(range(0, 1001, 1000 // MOVES))


@pytest.mark.parametrize(("total", "moves"), [(3, [0, 1, 2, 3]), (0, [0])])
def test_a_short_one_moves_with_each_step(bar, total, moves):
    shown = NodeProgress(total, None)
    for step in range(total + 1):
        shown.update(step)
    assert [value for value, _ in bar[1:]] == moves


def test_a_line_goes_to_the_tab_that_asked(lines, bar, monkeypatch):
    """And says of which workflow it is: that tab may show another one by now."""
    page = {"extra_pnginfo": {"workflow": {"id": "of-a-page"}}}
    queue = SimpleNamespace(currently_running={3: (1.0, "prompt", {}, page, ["7"], {})})
    monkeypatch.setattr(
        browsers.PromptServer, "instance", SimpleNamespace(prompt_queue=queue), raising=False
    )
    NodeProgress(10, "12:7").show_text("Step 3")
    told = {"node": "12:7", "text": "Step 3", "workflow": "of-a-page", "failed": False}
    assert lines == [(TOLD, told, {"only_asking": True})]
    queue.currently_running = {3: (1.0, "prompt", {}, {}, ["7"], {})}  # queued by a program
    assert browsers.running_workflow() == ""
    lines.clear()
    NodeProgress(10, None).show_text("nowhere")
    show_on_node("", "nowhere")
    assert lines == []


def test_a_sent_picture_is_no_larger_than_it_may_be():
    picture = torch.full((40, 80, 3), 2.0)
    image = Image.open(io.BytesIO(jpeg(picture, 20)))
    assert image.size == (20, 10) and image.format == "JPEG"
    assert image.getpixel((3, 3)) == (255, 255, 255)
    assert Image.open(io.BytesIO(jpeg(picture))).size == (80, 40)


def test_outside_of_a_run_there_is_no_node():
    assert (progress.current_prompt(), progress.current_node()) == ("", "")
