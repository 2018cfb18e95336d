"""What is kept of trainings for browsers, and the routes that tell and ask it."""

import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.errors import PersonalizeError
from personalize.nodes import live_routes, monitor
from personalize.nodes.live import MOST_POINTS, MOST_PREVIEWS, MOST_RUNS, LiveRun, LiveRuns, Stage
from personalize.nodes.live_routes import LIVE_ROUTE, add_live_routes
from personalize.nodes.train import TrainCrossInit
from personalize.tests.nodes import routes_client
from personalize.tests.nodes.test_train_nodes import picture, run

pytestmark = pytest.mark.host


def test_news_tell_each_loss_once_and_in_order():
    losses = {"loss": [], "denoising": []}
    one, told = LiveRun("p", "7", steps=9), []
    for step in range(1, 10):
        for values in losses.values():
            values.append(step / 8)
        one.record(step, losses)
        if step in (1, 2, 5, 9):
            told.append(one.changes())
    assert [news["start"] for news in told] == [0, 1, 2, 5]
    joined = [value for news in told for value in news["losses"]["denoising"]]
    assert joined == losses["denoising"]
    assert one.changes()["losses"]["loss"] == []


def test_news_of_a_resumed_training_start_where_it_goes_on():
    one = LiveRun("p", "7", steps=9)
    assert one.changes()["start"] == 0 and one.changes()["losses"] == {}
    losses = {"loss": [0.5] * 6}
    one.record(6, losses)
    assert (one.changes()["start"], one.history()["losses"]["loss"]) == (5, [0.5] * 6)


def test_values_that_come_while_a_reader_reads_are_left_for_later():
    losses = {"loss": [1.0, 2.0, 3.0], "denoising": [1.0, 2.0]}  # within the third step
    one = LiveRun("p", "7", steps=9)
    one.record(2, losses)
    assert one.history()["losses"] == {"loss": [1.0, 2.0], "denoising": [1.0, 2.0]}


@pytest.mark.parametrize(("steps", "stride"), [(1, 1), (600, 1), (601, 2), (5000, 9)])
def test_a_long_history_is_thinned_to_means(steps, stride):
    values = [float(n) for n in range(steps)]
    one = LiveRun("p", "7", steps=steps)
    one.record(steps, {"loss": values})
    history = one.history()
    drawn = history["losses"]["loss"]
    assert history["stride"] == stride and len(drawn) == -(-steps // stride) <= MOST_POINTS
    assert drawn[0] == pytest.approx(sum(values[:stride]) / len(values[:stride]))
    assert len(json.dumps(history)) < 10_000


def test_of_many_previews_the_first_and_the_last_of_times_stay():
    one = LiveRun("p", "7", steps=1000)
    for step in range(10, 2010, 10):
        one.add_preview(step, [b"%d" % step])
        assert len(one.previews) <= MOST_PREVIEWS and list(one.previews)[-1] == step
    steps = list(one.previews)
    assert steps == sorted(steps)
    assert one.previews[steps[3]] == [b"%d" % steps[3]]


@pytest.mark.parametrize(
    ("first_step", "widgets", "kept"), [(6, {}, [2, 4]), (1, {}, []), (6, {"steps": 9}, [])]
)
def test_a_resumed_training_keeps_the_previews_of_its_steps(first_step, widgets, kept):
    runs = LiveRuns()
    runs.times_continued("7", {})
    before = runs.begin(LiveRun("p1", "7"))
    for step in (2, 4, 6):
        before.add_preview(step, [b""])
    runs.times_continued("7", widgets)
    resumed = runs.begin(LiveRun("p2", "7"))
    resumed.record(first_step, {"loss": [0.5] * first_step})
    assert list(resumed.previews) == kept
    resumed.add_preview(8, [b""])
    resumed.record(first_step + 1, {"loss": [0.5] * (first_step + 1)})
    assert list(resumed.previews) == [*kept, 8]


def test_only_the_last_runs_are_kept_and_the_latest_of_each_node_is_shown():
    runs = LiveRuns()
    for n in range(MOST_RUNS + 3):
        runs.begin(LiveRun(f"p{n}", str(n % 2), "w" if n % 3 else "other"))
    assert runs.find("p2", "0") is None and runs.find("p3", "1") is not None
    assert {(r.prompt, r.node) for r in runs.of_workflow("w")} == {("p16", "0"), ("p17", "1")}
    assert runs.of_workflow("nobody's") == []


def test_a_run_is_stopped_while_it_is_under_way_only():
    runs = LiveRuns()
    one = runs.begin(LiveRun("p", "12:7"))
    assert not runs.stop("p", "7") and not runs.stop("q", "12:7") and not one.stop_wanted
    assert runs.stop("p", "12:7") and one.stop_wanted
    one.stage = Stage.FINISHED
    assert not runs.stop("p", "12:7")


def test_the_fingerprint_grows_for_the_stopped_training_alone():
    runs = LiveRuns()
    widgets, others = {"steps": 9, "images": None}, {"steps": 10, "images": None}
    before = runs.times_continued("7", widgets)
    one = runs.begin(LiveRun("p", "7"))
    assert not runs.go_on("p", "7")  # it still runs
    one.stage = Stage.STOPPED
    assert runs.go_on("p", "7")
    assert runs.times_continued("7", widgets) > before == runs.times_continued("7", others)
    assert runs.times_continued("8", widgets) == before
    one.resumable = False
    assert not runs.go_on("p", "7")


@pytest.fixture
def runs(monkeypatch):
    runs = LiveRuns()
    monkeypatch.setattr(live_routes, "LIVE", runs)
    monkeypatch.setattr(monitor, "LIVE", runs)
    return runs


@pytest.fixture
def told(monkeypatch):
    events = []
    monkeypatch.setattr(monitor, "tell_browsers", lambda _, news: events.append(news))
    return events


def stop_at(step, monkeypatch):
    """The user presses Stop and keep while a step is under way."""
    record = LiveRun.record

    def and_stop(self, now, *values):
        record(self, now, *values)
        self.stop_wanted |= now == step

    monkeypatch.setattr(LiveRun, "record", and_stop)


def test_a_stop_keeps_what_was_learned_and_going_on_ends_as_if_uninterrupted(
    tiny_sd1, told, monkeypatch
):
    stop_at(2, monkeypatch)
    stopped, losses = run(TrainCrossInit, tiny_sd1, steps=5, train_seed=71)
    assert stopped.training["steps_taken"] == 2 and len(losses["loss"]) == 2
    assert told[-1]["stage"] == "stopped" and told[-1]["step"] == 2
    monkeypatch.undo()
    short, _ = run(TrainCrossInit, tiny_sd1, steps=2, train_seed=71)
    assert torch.equal(stopped.words[""], short.words[""])
    resumed, _ = run(TrainCrossInit, tiny_sd1, steps=5, train_seed=71, resume=True)
    whole, _ = run(TrainCrossInit, tiny_sd1, steps=5, train_seed=71)
    assert torch.equal(resumed.words[""], whole.words[""])


def test_a_stopped_training_that_the_cache_lost_is_not_learned_on(
    tiny_sd1, told, runs, monkeypatch
):
    settings = {"steps": 5, "train_seed": 75, "resume": True}
    runs.times_continued("", settings)
    with monkeypatch.context() as patched:
        stop_at(2, patched)
        stopped, _ = run(TrainCrossInit, tiny_sd1, **settings)
    for _ in range(2):  # queued again, and nothing of it is in the host's cache
        again, _ = run(TrainCrossInit, tiny_sd1, **settings)
        assert torch.equal(again.words[""], stopped.words[""])
    assert runs.go_on("", "")
    whole, _ = run(TrainCrossInit, tiny_sd1, **settings)
    assert whole.training["steps_taken"] == 5


def test_a_stop_after_the_last_step_is_no_stop(tiny_sd1, told, monkeypatch):
    stop_at(3, monkeypatch)
    concept, _ = run(TrainCrossInit, tiny_sd1, steps=3, train_seed=72)
    assert concept.training["steps_taken"] == 3 and told[-1]["stage"] == "finished"


def test_no_more_than_ten_messages_a_second_and_none_is_lost(tiny_sd1, told, monkeypatch):
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) * monitor.TELL_SECONDS / 16)
    monkeypatch.setattr(monitor, "time", clock)
    run(TrainCrossInit, tiny_sd1, steps=40, train_seed=73)
    seconds = clock.monotonic()
    at_once = 4  # at the start and the end, and what must not wait
    assert at_once < len(told) <= at_once + seconds / monitor.TELL_SECONDS < 20
    assert sum(len(news["losses"].get("loss", [])) for news in told) == 40
    assert (told[0]["step"], told[-1]["step"], told[-1]["stage"]) == (0, 40, "finished")
    assert set(told[-1]["losses"]) == {"loss", "denoising", "regulariser"}


@pytest.mark.parametrize("images", [[torch.zeros(0, 64, 64, 3)], [picture(1, 63, 63, 3)]])
def test_a_failure_is_told(tiny_sd1, told, images):
    with pytest.raises(Exception, match=r"picture|Picture"):
        run(TrainCrossInit, tiny_sd1, images)
    assert told[-1]["stage"] == "failed" and "icture" in told[-1]["error"]


@pytest.mark.parametrize(
    ("widget", "value", "says"),
    [("placeholder", "ball", "ordinary word"), ("class_word", " ", "class_word is empty")],
)
def test_a_setting_that_is_refused_is_told_too(tiny_sd1, told, widget, value, says):
    with pytest.raises(PersonalizeError, match=says):
        run(TrainCrossInit, tiny_sd1, **{widget: value})
    assert [news["stage"] for news in told] == ["running", "failed"]
    assert says in told[-1]["error"] and told[-1]["error"].endswith(".")


def test_the_concept_of_an_earlier_step_is_had_without_training_again(tiny_sd1, told, runs):
    settings = {"steps": 6, "preview_every": 2, "train_seed": 74, "resume": True}
    widgets = {"steps": 6}

    def execute():
        asked = runs.times_continued("", widgets)
        concept, _ = run(TrainCrossInit, tiny_sd1, **settings)
        return concept, asked

    whole, first = execute()
    assert told[-1]["saved"] == told[-1]["previews"] == [2, 4, 6]
    assert not runs.keep("", "", 3)  # no state of it
    assert runs.keep("", "", 4)
    kept, second = execute()
    assert second > first and told[-1]["stage"] == "kept"
    steps_told = {news["step"] for news in told[told.index(told[-1]) - 2 :]}
    assert (told[-1]["step"], told[-1]["steps"], told[-1]["previews"]) == (4, 6, [2, 4, 6])
    assert 5 not in steps_told and kept.training["steps_taken"] == 4

    assert runs.go_on("", "")
    again, third = execute()
    assert third > second and told[-1]["stage"] == "finished"
    assert torch.equal(again.words[""], whole.words[""])
    assert told[-1]["previews"] == [2, 4, 6]
    short, _ = run(TrainCrossInit, tiny_sd1, **settings | {"steps": 4, "resume": False})
    assert torch.equal(kept.words[""], short.words[""])


def test_the_kept_step_is_of_its_settings_alone_and_the_last_one_is_no_wish():
    runs = LiveRuns()
    runs.times_continued("7", {"steps": 9})
    one = runs.begin(LiveRun("p", "7", steps=9))
    one.saved = [3, 9]
    assert not runs.keep("p", "7", 3)  # it still runs
    one.stage = Stage.FINISHED
    assert runs.keep("p", "7", 3) and runs.begin(LiveRun("q", "7", steps=9)).wanted == 3
    assert runs.keep("p", "7", 9) and runs.begin(LiveRun("r", "7", steps=9)).wanted is None
    assert runs.keep("p", "7", 3)
    runs.times_continued("7", {"steps": 12})
    assert runs.begin(LiveRun("s", "7", steps=12)).wanted is None


def ask(method, path, **options):
    return routes_client.ask(add_live_routes, method, LIVE_ROUTE + path, **options)


def test_routes_tell_histories_and_previews(runs):
    one = runs.begin(LiveRun("p", "12:7", "w", 9))
    one.record(2, {"loss": [0.25, 0.125]})
    one.add_preview(2, [b"first", b"\xff\xd8picture"])
    status, _, content = ask("GET", "?workflow=w")
    assert status == 200 and [r["node"] for r in content["runs"]] == ["12:7"]
    status, _, content = ask("GET", "/run?prompt=p&node=12%3A7")
    assert (status, content["losses"], content["previews"]) == (200, {"loss": [0.25, 0.125]}, [2])
    status, headers, content = ask("GET", "/preview?prompt=p&node=12%3A7&step=2&number=1")
    assert (status, headers["Content-Type"], content) == (200, "image/jpeg", b"\xff\xd8picture")
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/run?prompt=p&node=8", "/run", "/preview?prompt=p&node=7&step=3", "/preview?prompt=p&node=7"]
    + [
        f"/preview?prompt=p&node=7&step={step}"
        for step in ("x", "-1", "²", "٣", "9" * 30, "9" * 5_000)
    ]
    + [f"/preview?prompt=p&node=7&step=2&number={number}" for number in ("x", "-1", "1", "²")],
)
def test_what_is_not_there_is_not_found(runs, path):
    runs.begin(LiveRun("p", "7")).add_preview(2, [b""])
    status, _, content = ask("GET", path)
    assert status == 404 and content["error"].endswith(".")


def test_stop_and_continue_are_for_post_with_json_only(runs):
    one = runs.begin(LiveRun("p", "7", steps=9))
    body = {"prompt": "p", "node": "7"}
    for path in ("/stop", "/continue"):
        assert ask("GET", f"{path}?prompt=p&node=7")[0] == 405
        assert ask("POST", path, data=body)[0] == 400
        assert ask("POST", path, json={"prompt": "p"})[0] == 400
        assert ask("POST", path, json=["p", "7"])[0] == 400
    assert not one.stop_wanted
    assert ask("POST", "/continue", json=body)[0] == 409
    assert ask("POST", "/stop", json=body)[0] == 200 and one.stop_wanted
    one.stage, one.saved = Stage.STOPPED, [5]
    assert ask("POST", "/stop", json=body)[0] == 409
    assert ask("POST", "/continue", json=body)[0] == 200
    assert ask("POST", "/keep", json=body)[0] == 400
    assert ask("POST", "/keep", json=body | {"step": "4"})[0] == 409
    assert ask("POST", "/keep", json=body | {"step": "-5"})[0] == 409
    assert ask("POST", "/keep", json=body | {"step": "5"})[0] == 200
