"""The Learn node itself: as high as it must be, presets that are seen, previews large, an earlier
step kept, failures told, and a page that does not grow while it learns."""

import shutil

import pytest
from personalize.concepts.files import load_concept
from personalize.host.progress import MOVES
from personalize.tests.browser.renderers import CANVAS_AT_NIGHT
from personalize.tests.browser.test_late_answers import STATUS
from personalize.tests.browser.test_live_training import (
    SEEDS,
    Studio,
    panel,
    stage,
    wait_for_points,
    wait_for_stage,
)
from personalize.tools.server.page import Renderer

pytestmark = [pytest.mark.server, pytest.mark.browser]

STEPS, AT_ONCE = 1000, 8  # steps of which one message tells
A_MOVE, A_RUN = 5, 100
"""Listeners that the host itself keeps for each move of its progress bar, and for a run's end; each
of its progress texts was 60."""

TINY = {
    "steps": 24,
    "batch_size": 1,
    "resolution": 64,
    "preview_every": 12,
    "placeholder": "<ball>",
}
LEARN = """async ([status, steps, atOnce]) => {
    const { api } = await import("/scripts/api.js")
    for (let step = atOnce; step <= steps; step += atOnce) {
        const loss = Array.from({ length: atOnce }, (_, at) => Math.exp(-(step + at) / steps))
        const stage = step < steps ? "running" : "finished"
        const news = { step, steps, stage, start: step - atOnce, losses: { loss } }
        api.dispatchCustomEvent("personalize.live", { ...status, ...news })
        await new Promise(requestAnimationFrame)
    }
}"""
"""What the server tells of a training, one message a frame, which is more often than it does."""

LOW = 620  # pixels: a Learn node fits a screen at 100 %, its four sockets and panel included
WIDTHS = (400, 100)  # of a node in a template, and less than any node can have
LONG = {"step": 340, "steps": 4800, "rate": 0.5, "left": 8920, "stage": "running", "start": 0}
CUT = """async ([id, width, status]) => {
    const { api } = await import("/scripts/api.js")
    const node = app.canvas.graph.getNodeById(id)
    node.setSize([width, node.size[1]])
    const losses = { loss: Array(status.step).fill(1) }
    api.dispatchCustomEvent("personalize.live", { ...status, losses })
    for (let n = 0; n < 8; n++) await new Promise(requestAnimationFrame)
    const panel = document.querySelector(".personalize-live")
    const { left, right } = panel.getBoundingClientRect()
    const isCut = one => {
        const box = one.getBoundingClientRect()
        return one.scrollWidth > one.clientWidth || box.left < left - 1 || box.right > right + 1
    }
    const shown = [...panel.querySelectorAll(".controls > *")].filter(one => one.offsetWidth)
    return [shown.length, shown.filter(isCut).map(one => one.textContent)]
}"""
"""What stands above the curve: how many things, and those that are not read whole."""
WIDGETS = """id => Object.fromEntries(
    app.canvas.graph.getNodeById(id).widgets.map(w => [w.name, w.value])
)"""
SHOWN = """id => {
    const node = app.canvas.graph.getNodeById(id)
    return node.widgets.filter(w => node.isWidgetVisible(w)).map(w => w.name)
}"""


@pytest.fixture(autouse=True)
def clean_folders(server):
    output = server.base_directory / "output"
    for folder in (output / "concepts", output / "personalize"):
        shutil.rmtree(folder, ignore_errors=True)


def counted(devtools):
    """What the page holds after a garbage collection."""
    devtools.send("HeapProfiler.collectGarbage")
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return {one["name"]: one["value"] for one in metrics}


@CANVAS_AT_NIGHT
def test_the_page_does_not_grow_over_a_thousand_steps(page):
    base = page.add_node("CheckpointLoaderSimple", (0, 0), ckpt_name="tiny_sd1.safetensors")
    pictures = page.add_node("MiniatureSubject", (0, 200), kind="thing", number=0)
    train = page.add_node(
        "PersonalizeTrainTextualInversion", (400, 0), **TINY, train_seed=next(SEEDS)
    )
    for output, name in enumerate(("model", "clip", "vae")):
        page.link(base, output, train, name)
    page.link(pictures, 0, train, "images")
    page.load(page.saved())
    page.center_on(train, 0.8)
    devtools = page.tab.context.new_cdp_session(page.tab)
    devtools.send("Performance.enable")

    # with all that the host tells, too
    prompt = page.queue()
    wait_for_points(page, 4)
    before = counted(devtools)
    assert page.wait(prompt).status == "success"
    wait_for_stage(page, "Learned")
    grown = counted(devtools)["JSEventListeners"] - before["JSEventListeners"]
    assert grown <= MOVES * A_MOVE + A_RUN, grown

    # and with what we tell of many steps
    workflow = page.tab.evaluate("String(app.rootGraph.id)")
    status = STATUS | {"prompt": "long", "workflow": workflow, "node": str(train)}
    page.tab.evaluate(LEARN, [status, AT_ONCE, AT_ONCE])
    before = counted(devtools)
    page.tab.evaluate(LEARN, [status | {"prompt": "longer"}, STEPS, AT_ONCE])
    panel(page).get_by_text(f"step {STEPS} of {STEPS}").wait_for()
    after = counted(devtools)
    grown = {name: after[name] - before[name] for name in before}
    assert grown["JSEventListeners"] <= A_MOVE and grown["Nodes"] < AT_ONCE, grown
    assert grown["JSHeapUsedSize"] < 4e6


def test_presets_are_seen_and_advanced_inputs_are_folded(page, renderer):
    train = page.add_node("PersonalizeTrainCrossInit", (0, 0))
    page.center_on(train, 0.8)
    read = lambda: page.tab.evaluate(WIDGETS, train)  # noqa: E731
    assert (read()["preset"], read()["steps"]) == ("quality", 320)
    page.set_widget(train, "preset", "fast")
    assert (read()["steps"], read()["learning_rate"]) == (25, 0.08)
    page.set_widget(train, "steps", 30)
    assert read()["preset"] == "custom"
    page.set_widget(train, "preset", "fast")

    # an older workflow, whose steps were not those of its preset
    saved = page.saved()
    values = saved["nodes"][0]["widgets_values"]
    values[values.index(25)] = 320
    page.load(saved)
    assert (read()["preset"], read()["steps"]) == ("fast", 25)

    assert page.tab.evaluate("app.graph.nodes[0].size[1]") <= LOW
    if renderer is Renderer.CANVAS:
        assert "templates" not in page.tab.evaluate(SHOWN, train)
        more = panel(page).get_by_role("button", name="settings")
        more.click()
        assert more.get_attribute("aria-expanded") == "true"
        assert {"templates", "resume", "steps"} <= set(page.tab.evaluate(SHOWN, train))
        more.click()
        assert page.tab.evaluate("app.graph.nodes[0].size[1]") <= LOW
    else:
        page.find("[data-node-id]").get_by_text("templates").wait_for(state="detached")
        page.find("[data-testid=advanced-inputs-button]").click()
        page.find("[data-node-id]").get_by_text("templates").first.wait_for()
    page.set_widget(train, "steps", 26)
    page.load(page.saved())
    assert (read()["preset"], read()["steps"]) == ("custom", 26)


def test_how_long_it_takes_is_read_whole_however_narrow_the_node_is(page):
    train = page.add_node("PersonalizeTrainDETEX", (0, 0))
    page.load(page.saved())
    page.center_on(train, 0.8)
    workflow = page.tab.evaluate("String(app.rootGraph.id)")
    status = STATUS | LONG | {"workflow": workflow, "node": str(train)}
    for width in WIDTHS:
        shown, cut = page.tab.evaluate(CUT, [train, width, status | {"prompt": f"at {width}"}])
        assert panel(page).get_by_text("2:28:40 left").is_visible()
        assert shown >= 4 and not cut, (width, cut)
        page.screenshot(f"width-{width}-{page.renderer.value}")


def test_previews_large_an_earlier_step_kept_saved_and_a_failure(page, server):
    prompts = "a photo of {}\n{} on the beach"
    studio = Studio(page, steps=9, preview_every=3, resolution=64, preview_prompt=prompts)
    page.tab.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", studio.save)
    page.center_on(studio.train, 0.8)

    # it runs alone, and says that nothing is saved
    page.run()
    wait_for_stage(page, "Learned")
    panel(page).get_by_text("Not saved yet.").wait_for()

    # nothing changed: the host's cache answers
    cached = dict(page.run().messages)["execution_cached"]["nodes"]
    assert str(studio.train) in cached and stage(page) == "Learned"

    # the previews open large, arrows move, and an earlier step is kept
    panel(page).locator(".large").click()
    grid = page.find(".personalize-grid")
    assert grid.locator("th[scope=row]").all_inner_texts() == [
        "a photo of <my-mug>",
        "<my-mug> on the beach",
    ]
    assert grid.locator("th[scope=col]").all_inner_texts() == ["3", "6", "9"]
    caption, keep = grid.locator("figcaption"), grid.locator(".controls button").first
    assert caption.inner_text() == "step 9 · a photo of <my-mug>" and keep.is_disabled()
    for key in ("ArrowLeft", "ArrowDown", "ArrowDown"):
        page.tab.keyboard.press(key)
    assert caption.inner_text() == "step 6 · <my-mug> on the beach"
    page.tab.wait_for_function(
        "[...document.querySelectorAll('.personalize-grid img')].every(i => i.naturalWidth > 0)"
    )
    page.screenshot(f"previews-{page.renderer.value}")
    page.hold_answers("/live/keep")
    keep.click()
    assert keep.is_disabled()
    page.release_answer(0)
    wait_for_stage(page, "Kept")
    panel(page).get_by_text("step 6 of 9").wait_for()
    assert grid.locator("th[scope=col]").all_inner_texts() == ["3", "6", "9"]
    page.tab.keyboard.press("Escape")
    grid.wait_for(state="detached")

    # one click saves it
    panel(page).get_by_role("button", name="Save it").click()
    page.find(".personalize-told").wait_for()
    assert "my-concept.safetensors" in page.find(".personalize-told").inner_text()
    assert panel(page).get_by_text("Not saved yet.").is_hidden()
    log = panel(page).get_by_role("button", name="log")  # keys go on there
    assert log.evaluate("button => button === document.activeElement")
    (file,) = (server.base_directory / "output" / "concepts").glob("*.safetensors")
    saved = load_concept(file, file.name)
    assert (saved.placeholder, saved.training["steps_taken"]) == ("<my-mug>", 6)

    # a failure is told, and nothing says that it learned
    page.set_widget(studio.train, "placeholder", "mug")
    page.wait(page.queue())
    wait_for_stage(page, "Failed")
    assert "ordinary word" in panel(page).get_by_role("alert").inner_text()
    assert "Learned" not in panel(page).inner_text() and "step 9" not in panel(page).inner_text()
