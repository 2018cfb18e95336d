"""A training as people meet it: learn, watch, stop, go on, save, write the placeholder, draw."""

import io
import itertools
import shutil

import numpy as np
import pytest
import torch
from personalize.miniature.files import CHECKPOINT
from personalize.miniature.subjects import Jury, prompts_for, thing
from personalize.tests.browser.renderers import CANVAS_AT_NIGHT
from personalize.tests.browser.test_concepts import open_sidebar
from PIL import Image

pytestmark = [pytest.mark.server, pytest.mark.browser]

STEPS = 150
TRAIN = "PersonalizeTrainTextualInversion"
SMALL = {
    "steps": STEPS,
    "batch_size": 1,
    "learning_rate": 0.005,
    "resolution": 128,
    "preview_every": 50,
    "init_word": "mug",
    "placeholder": "<my-mug>",
}
SEEDS = itertools.count()  # one for each training, or the host's cache would answer

WATCH = """() => {
    window.seen = []
    const panel = document.querySelector(".personalize-live")
    const look = () => {
        const points = panel.querySelector("polyline.smooth")?.getAttribute("points")
        const stage = panel.querySelector(".stage").textContent
        if (points) window.seen.push([points.split(" ").length, stage])
    }
    new MutationObserver(look).observe(panel, { subtree: true, childList: true, attributes: true })
}"""
STOP_AT = """async least => {
    const panel = document.querySelector(".personalize-live")
    const tooLate = () => panel.querySelector(".stage").textContent === "Learned"
    const drawn = () => panel.querySelector("polyline.smooth")?.getAttribute("points").split(" ")
    while (!(drawn()?.length >= least) && !tooLate()) await new Promise(requestAnimationFrame)
    const stop = panel.querySelector(".controls button:last-child")
    stop.focus()
    stop.click()
}"""
"""A click as soon as the curve has so many points: from here it could come after the last step."""

HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true })
    document.dispatchEvent(new Event("visibilitychange"))
}"""


@pytest.fixture(autouse=True)
def clean_folders(server):
    """No concept and no training state of another test."""
    output = server.base_directory / "output"
    for folder in (output / "concepts", output / "personalize"):
        shutil.rmtree(folder, ignore_errors=True)


class Studio:
    """A workflow that learns a mug on the miniature, saves it and draws it, added node by node."""

    def __init__(self, page, **widgets):
        self.page = page
        self.base = page.add_node("CheckpointLoaderSimple", (0, 0), ckpt_name=CHECKPOINT)
        self.pictures = page.add_node("MiniatureSubject", (0, 200), kind="thing", number=0)
        self.train = self.add_training((400, 0), **widgets)
        self.save = page.add_node("PersonalizeSaveConcept", (900, 0), filename="mug")
        page.link(self.train, 0, self.save, "concept")

    def add_training(self, place, **widgets):
        train = self.page.add_node(TRAIN, place, **SMALL | widgets, train_seed=next(SEEDS))
        for output, name in enumerate(("model", "clip", "vae")):
            self.page.link(self.base, output, train, name)
        self.page.link(self.pictures, 0, train, "images")
        return train

    def add_drawing(self):
        """Apply Concept, an empty prompt and what draws it; returns the node that saves."""
        add, link = self.page.add_node, self.page.link
        apply = add("PersonalizeApplyConcept", (900, 200))
        prompt = add("CLIPTextEncode", (1350, 0))
        latent = add("EmptyLatentImage", (1350, 250), width=128, height=128)
        sample = add("KSampler", (1800, 0), steps=10, cfg=4.0)
        decode = add("VAEDecode", (1800, 350))
        saved = add("SaveImage", (1800, 450))
        for output, name in enumerate(("model", "clip")):
            link(self.base, output, apply, name)
        link(self.train, 0, apply, "concept")
        link(apply, 1, prompt, "clip")
        link(apply, 0, sample, "model")
        for name in ("positive", "negative"):
            link(prompt, 0, sample, name)
        link(latent, 0, sample, "latent_image")
        link(sample, 0, decode, "samples")
        link(self.base, 2, decode, "vae")
        link(decode, 0, saved, "images")
        return prompt, saved


def judged(picture, subject):
    """What the miniature's judges say to a picture of the subject on the beach."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.float32) / 255
    on_the_beach = prompts_for(subject)[0]
    (score,) = Jury.load().score(subject, on_the_beach, torch.from_numpy(pixels)[None])
    return score


def panel(page):
    """The one that is in view."""
    return page.find(".personalize-live").filter(visible=True)


def stage(page):
    return panel(page).locator(".stage").inner_text()


def wait_for_stage(page, wanted):
    panel(page).locator(".stage").get_by_text(wanted, exact=True).wait_for()


def points(page):
    """How many points the smoothed curve has."""
    curve = panel(page).locator("polyline.smooth").first
    return len((curve.get_attribute("points") or "").split()) if curve.count() else 0


def wait_for_points(page, least):
    page.tab.wait_for_function(
        """least => {
            const curves = document.querySelectorAll(".personalize-live polyline.smooth")
            const counts = [...curves].map(c => c.getAttribute("points").split(" ").length)
            return Math.max(0, ...counts) >= least
        }""",
        arg=least,
    )


def act(page):
    """The button that stops a training or lets it go on."""
    return panel(page).locator(".controls button").last


@CANVAS_AT_NIGHT
def test_learn_stop_go_on_save_and_draw(page, server):
    studio = Studio(page)
    page.center_on(studio.train, 0.8)
    assert act(page).is_disabled() and "appear here" in panel(page).inner_text()
    box = panel(page).bounding_box()

    # it is stopped: the workflow goes on and the concept is saved
    first = page.queue()
    page.tab.evaluate(STOP_AT, 8)
    wait_for_stage(page, "Stopped")
    assert page.wait(first).status == "success"
    stopped = points(page)
    assert 8 <= stopped < STEPS and act(page).inner_text() == "Go on"
    assert act(page).evaluate("button => button === document.activeElement")  # for keys
    open_sidebar(page)
    page.find(".personalize-card[data-name='mug.safetensors']").wait_for()

    # it goes on from there and is watched, and the sidebar follows
    page.tab.evaluate(WATCH)
    act(page).click()
    wait_for_points(page, stopped + 8)
    page.screenshot(f"live-training-{page.renderer.value}")
    wait_for_stage(page, "Learned")
    counts, stages = zip(*page.tab.evaluate("window.seen"), strict=True)
    assert len(set(counts)) > 1 and sorted(counts) == list(counts) and counts[0] >= stopped
    assert list(dict.fromkeys(stages))[-2:] == ["Learning", "Learned"]
    page.find(".personalize-card[data-name='mug-2.safetensors']").wait_for()
    assert points(page) == STEPS > stopped and act(page).is_disabled()
    assert panel(page).bounding_box() == box

    # the slider shows an earlier preview, the scale is logarithmic at will
    slider = panel(page).locator("input[type=range]")
    shown = panel(page).locator("img").get_attribute("src")
    slider.focus()
    page.tab.keyboard.press("Home")
    assert panel(page).locator(".previews .step").inner_text() == "step 50"
    assert panel(page).locator("img").get_attribute("src") != shown
    linear = panel(page).locator("polyline.smooth").get_attribute("points")
    panel(page).get_by_role("button", name="log").click()
    page.wait_for_frames(4)
    assert panel(page).locator("polyline.smooth").get_attribute("points") != linear

    # a click on the card writes what the prompt needs, and the picture is drawn with it
    prompt, saved = studio.add_drawing()
    page.center_on(prompt, 0.8)
    field = page.find("textarea").last
    field.fill("a photo of ")
    page.find(".personalize-card .personalize-main").first.click()
    assert field.input_value() == "a photo of <my-mug>"
    page.tab.keyboard.type(" on the beach")
    run = page.run()
    (file,) = run.outputs[str(saved)]["images"]
    score = judged(server.client.fetch(file), thing(0))
    assert (score.kind, score.edits) == (1, 1)  # a mug on a beach

    # the training came from the host's cache: its curve stays, and is back after a reload
    assert stage(page) == "Learned" and points(page) == STEPS
    page.reload()
    wait_for_points(page, STEPS)
    assert stage(page) == "Learned"


def test_the_side_panel_leaves_what_is_on_the_nodes_as_it_is(page):
    page.set_settings({"Comfy.RightSidePanel.IsOpen": True})
    page.reload()
    page.clear()
    train = page.add_node(TRAIN, (0, 0))
    apply = page.add_node("PersonalizeApplyConcept", (450, 0))
    page.center_on(train, 0.6)
    ours = [page.find(one).first for one in (".personalize-live", ".personalize-reminder")]
    widths = [one.bounding_box()["width"] for one in ours]
    for node, name in ((train, "init_word"), (apply, "local_strength")):
        page.select(node)
        page.find("[data-testid=properties-panel]").get_by_text(name).first.wait_for()
        page.wait_for_frames(10)
        assert [one.bounding_box()["width"] for one in ours] == widths


@CANVAS_AT_NIGHT
def test_two_trainings_one_in_a_subgraph_and_a_hidden_tab(page):
    studio = Studio(page, steps=30, preview_every=0)
    other = studio.add_training((400, 700), steps=20, preview_every=5, placeholder="<cup>")
    keep = page.add_node("PersonalizeSaveConcept", (900, 700), filename="cup")
    page.link(other, 0, keep, "concept")
    subgraph = page.tab.evaluate(
        """id => {
            const graph = app.canvas.graph
            const { node } = graph.convertToSubgraph(new Set([graph.getNodeById(id)]))
            return node.id
        }""",
        other,
    )
    page.load(page.saved())
    page.center_on(studio.train, 0.8)
    open_subgraph = "id => app.canvas.setGraph(app.rootGraph.getNodeById(id)?.subgraph)"

    # a page that nobody looks at asks for nothing, and catches up
    asked = []
    page.tab.on("request", lambda request: asked.append(request.url))
    page.tab.evaluate(HIDE, True)
    page.run()
    assert not [url for url in asked if "/personalize/live" in url]
    assert points(page) == 0
    page.tab.evaluate(HIDE, False)
    wait_for_points(page, 30)
    page.tab.evaluate(open_subgraph, subgraph)
    page.center_on(other, 0.8)
    panel(page).get_by_text("step 20 of 20").wait_for()
    assert panel(page).locator("img").get_attribute("src").endswith("step=20&number=0")
    page.tab.evaluate("app.canvas.setGraph(app.rootGraph)")
    page.center_on(studio.train, 0.8)
    panel(page).get_by_text("step 30 of 30").wait_for()
