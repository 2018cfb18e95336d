"""Words in a prompt: unknown ones are seen, corrected and applied; one click puts a concept between
the model and what it feeds."""

import json
from itertools import cycle

import pytest
from personalize.concepts import methods
from personalize.concepts.placeholders import find_placeholders
from personalize.miniature.files import CHECKPOINT
from personalize.tests.browser.boxes import drawn_boxes, overlapping
from personalize.tests.browser.test_concepts import (
    TOAST,
    cards,
    folder,
    know_the_shelf,
    open_sidebar,
    put,
    suggestions,
)
from personalize.tools.server.page import Renderer

__all__ = ["folder"]  # the fixture
pytestmark = [pytest.mark.server, pytest.mark.browser]

LINKS = """() => app.graph.nodes.flatMap(node => (node.inputs ?? []).flatMap(input => {
    const link = app.graph.getLink(input.link)
    if (!link) return []
    const source = app.graph.getNodeById(link.origin_id)
    return [`${source.type}#${source.id}.${link.origin_slot} ${node.type}#${node.id}.${input.name}`]
})).sort()"""
WHOLE = """() => {
    const { nodes, links } = app.rootGraph.serialize()
    const byId = nodes.map(n => [n.id, n.type, n.pos, n.size, n.order, n.widgets_values])
    return [byId.sort(([one], [other]) => one - other), links.map(link => link.slice(1)).sort()]
}"""
STEPS = """() => {
    const { undoQueue, redoQueue } = app.extensionManager.workflow.activeWorkflow.changeTracker
    return [undoQueue.length, redoQueue.length]
}"""
APPLY_AND_UNDO = """() => {
    [...document.querySelectorAll(".personalize-hints button")].at(-1).click()
    const nodes = app.graph.nodes.length
    document.activeElement.blur() // of a text, the browser itself takes back what was typed
    window.dispatchEvent(new KeyboardEvent("keydown", { key: "z", ctrlKey: true }))
    return nodes
}"""
UNDONE = """() => {
    const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker
    return app.graph.nodes.length === 5 && !tracker._restoringState
}"""
MADE = "type => LiteGraph.createNode(type).size[1]"
FREE = """async type => {
    const { freePlace } = await import("/extensions/personalize/graph.js")
    return freePlace(app.canvas.graph, LiteGraph.createNode(type).size, [0, 0])
}"""
FIND = """async texts => {
    const { mentionsIn } = await import("/extensions/personalize/concepts/mentions.js")
    return texts.map(text => mentionsIn(text).map(m => [m.start, m.end, m.word, m.weight, m.exact]))
}"""
NEAREST = """async ([word, known]) => {
    const { nearestWord } = await import("/extensions/personalize/concepts/mentions.js")
    return nearestWord(word, known)
}"""
WRITTEN = [
    "a <my-dog> and <my-dog:pose2>, <my-dog:0.8>, <my-dog:pose2:1.2>, <my-dog:.5>",
    "<lora:name:0.5> <LoRA:name> <lora> < me > <me <<me>> <me:a:b> <1.2.3:4.5.6> <ünï-cödé>",
    "\uff1cmy-dog\uff1e \uff1c me:0.8 > embedding:<my-dog> Embedding:<me> a < b > c, < lora:x >",
]


class Studio:
    """A checkpoint that feeds two prompts, a sampler and a training."""

    def __init__(self, page, checkpoint=CHECKPOINT):
        add, link = page.add_node, page.link
        self.page = page
        know_the_shelf(page)
        self.base = add("CheckpointLoaderSimple", (0, 0), ckpt_name=checkpoint)
        self.prompt = add("CLIPTextEncode", (400, 0))
        self.negative = add("CLIPTextEncode", (400, 260))
        self.sample = add("KSampler", (900, 0), steps=1)
        self.train = add("PersonalizeTrainTextualInversion", (1300, 0), placeholder="<new>")
        for node in (self.prompt, self.negative):
            link(self.base, 1, node, "clip")
        for node in (self.sample, self.train):
            link(self.base, 0, node, "model")
        link(self.base, 1, self.train, "clip")
        link(self.prompt, 0, self.sample, "positive")
        link(self.negative, 0, self.sample, "negative")
        page.center_on(self.prompt, 0.8)
        self.field = page.find("textarea").first
        self.field.wait_for()

    @property
    def links(self):
        return set(self.page.tab.evaluate(LINKS))

    def hints(self):
        """What is told under the field, without the buttons."""
        self.page.wait_for_frames(4)
        told = self.page.find(".personalize-hints p").all_inner_texts()
        return [line.partition(".")[0] for line in told]

    def applies(self):
        """Ids of the nodes that apply a concept."""
        find = "app.graph.nodes.filter(n => n.type === 'PersonalizeApplyConcept').map(n => n.id)"
        return [int(node) for node in self.page.tab.evaluate(find)]


def test_the_page_reads_a_prompt_as_the_server_does(page):
    found = page.tab.evaluate(FIND, WRITTEN)
    expected = [
        [[m.start, m.end, m.word, m.weight, m.exact] for m in find_placeholders(text)]
        for text in WRITTEN
    ]
    assert found == expected
    known = ["<me>", "<my-dog>", "<my-dog:pose2>"]
    for word, nearest in {"<my-dgo>": "<my-dog>", "<ME>": "<me>", "<castle>": ""}.items():
        assert page.tab.evaluate(NEAREST, [word, known]) == nearest


def test_a_typo_is_corrected_and_a_concept_applied_where_it_is_written(page):
    studio = Studio(page)
    before = studio.links
    studio.field.fill("a photo of a <my-dgo:0.8>, <html> and <rex> on the beach")
    page.find(".personalize-marks mark").first.wait_for()
    assert page.find(".personalize-marks mark").all_inner_texts() == ["<my-dgo:0.8>", "<rex>"]
    marked = page.find(".personalize-marks").inner_text()
    assert marked.strip("\u200b") == studio.field.input_value()
    assert studio.hints() == [
        "<my-dgo> is no concept that is applied here",
        "<rex> is not applied to this prompt",
    ]
    page.screenshot(f"marks-{page.renderer.value}")

    # one click corrects, one applies; undo takes all of that back in one step
    page.find(".personalize-hints").get_by_role("button", name="Write <my-dog>").click()
    assert studio.field.input_value().startswith("a photo of a <my-dog:0.8>, <html>")
    apply_here = page.find(".personalize-hints").get_by_role("button", name="Apply here")
    apply_here.last.click()
    (first,) = studio.applies()
    kept = {link for link in before if f"PersonalizeTrainTextualInversion#{studio.train}" in link}
    moved = {
        f"PersonalizeApplyConcept#{first}.1 CLIPTextEncode#{studio.prompt}.clip",
        f"PersonalizeApplyConcept#{first}.1 CLIPTextEncode#{studio.negative}.clip",
        f"PersonalizeApplyConcept#{first}.0 KSampler#{studio.sample}.model",
        f"CheckpointLoaderSimple#{studio.base}.0 PersonalizeApplyConcept#{first}.model",
        f"CheckpointLoaderSimple#{studio.base}.1 PersonalizeApplyConcept#{first}.clip",
    }
    assert kept | moved <= studio.links and not overlapping(drawn_boxes(page))
    unknown = "<html> is no concept that is applied here"
    assert studio.hints() == ["<my-dog> is not applied to this prompt", unknown]
    page.tab.evaluate("document.activeElement.blur()")
    page.find("#graph-canvas").focus()
    page.tab.keyboard.press("Control+z")
    page.tab.wait_for_function(UNDONE)
    assert studio.links == before

    # also in the moment of the click, before the new nodes are drawn
    assert page.tab.evaluate(APPLY_AND_UNDO) == 7
    page.tab.wait_for_function(UNDONE)
    assert studio.links == before

    # the second concept is chained behind the first, in front of all that the first fed
    page.tab.evaluate("app.canvas.deselectAll()")
    page.center_on(studio.prompt, 0.8)
    apply_here.last.click()
    assert studio.hints() == ["<my-dog> is not applied to this prompt", unknown]
    apply_here.first.click()
    first, second = studio.applies()
    assert {
        f"PersonalizeApplyConcept#{first}.0 PersonalizeApplyConcept#{second}.model",
        f"PersonalizeApplyConcept#{first}.1 PersonalizeApplyConcept#{second}.clip",
        f"PersonalizeApplyConcept#{second}.1 CLIPTextEncode#{studio.prompt}.clip",
        f"PersonalizeApplyConcept#{second}.0 KSampler#{studio.sample}.model",
    } <= studio.links
    assert not overlapping(drawn_boxes(page)) and studio.hints() == [unknown]


def test_an_insertion_between_linked_nodes_is_one_step_of_undo_and_of_redo(page):
    studio = Studio(page)
    page.load(page.saved())
    page.center_on(studio.prompt, 0.6)
    open_sidebar(page)
    cards(page).first.wait_for()

    places = cycle([(900, 850), (780, 850)])  # two clicks in one place add a node

    def click_beside():
        """The frontend takes note of changes then: an undone one is lost if it finds any."""
        page.tab.mouse.click(*next(places))
        page.wait_for_frames(10)
        return page.tab.evaluate(WHOLE), page.tab.evaluate(STEPS)

    before, (steps, _) = click_beside()
    cards(page).first.locator(".personalize-icon").first.click()
    page.tab.wait_for_function(f"({STEPS})()[0] === {steps + 1}")
    after, counted = click_beside()
    assert counted == [steps + 1, 0] and len(after[0]) == len(before[0]) + 2
    assert studio.applies() and not overlapping(drawn_boxes(page))
    for _ in range(2):
        page.tab.keyboard.press("Control+z")
        page.tab.wait_for_function(f"({STEPS})()[1] === 1")
        assert click_beside() == (before, [steps, 1])
        page.tab.keyboard.press("Control+y")
        page.tab.wait_for_function(f"({STEPS})()[1] === 0")
        assert click_beside() == (after, [steps + 1, 0])


@pytest.mark.parametrize("renderer", [Renderer.NODES_2], indirect=True)
def test_a_new_node_has_room_as_large_as_it_will_be_drawn(page):
    """Only then is its size known; here it would just fit above another as large as it is made."""
    page.add_node("KSampler", (0, page.tab.evaluate(MADE, "PersonalizeSaveConcept") + 41))
    page.wait_for_frames(10)
    page.add_node("PersonalizeSaveConcept", page.tab.evaluate(FREE, "PersonalizeSaveConcept"))
    assert not overlapping(drawn_boxes(page))


def test_apply_here_keeps_the_concepts_that_the_prompt_knows(page):
    """Also where the other one is applied beside it, on a branch of its own."""
    studio = Studio(page)
    studio.field.fill("<my-dog> beside <rex>")
    apply_here = page.find(".personalize-hints").get_by_role("button", name="Apply here")
    apply_here.first.click()
    (first,) = studio.applies()
    load = page.add_node("PersonalizeLoadConcept", (0, 900), concept_name="pets/rex.safetensors")
    branch = page.add_node("PersonalizeApplyConcept", (400, 900))
    for source, output, name in ((studio.base, 0, "model"), (studio.base, 1, "clip")):
        page.link(source, output, branch, name)
    page.link(load, 0, branch, "concept")
    assert studio.hints() == ["<rex> is not applied to this prompt"]
    apply_here.first.click()
    assert studio.hints() == []
    (third,) = set(studio.applies()) - {first, int(branch)}
    assert {
        f"PersonalizeLoadConcept#{load}.0 PersonalizeApplyConcept#{third}.concept",
        f"PersonalizeApplyConcept#{first}.1 PersonalizeApplyConcept#{third}.clip",
        f"PersonalizeApplyConcept#{third}.1 CLIPTextEncode#{studio.prompt}.clip",
        f"PersonalizeApplyConcept#{third}.0 KSampler#{studio.sample}.model",
    } <= studio.links
    assert not overlapping(drawn_boxes(page))

    # one that was switched off is switched on again, and none is added
    page.tab.evaluate("id => { app.graph.getNodeById(id).mode = 4 }", third)
    page.change()
    assert studio.hints() == ["<rex> is not applied to this prompt"]
    apply_here.first.click()
    assert studio.hints() == []
    assert page.tab.evaluate("id => app.graph.getNodeById(id).mode", third) == 0
    assert len(studio.applies()) == 3


def test_completion_applies_what_is_chosen_and_tells_equal_names_apart(page, folder):
    put(folder / "second.safetensors", methods.TEXTUAL_INVERSION, "<rex>", "dog")
    page.reload()
    page.clear()
    studio = Studio(page)
    studio.field.focus()
    page.tab.keyboard.type("a <re")
    options = page.find(".personalize-completion li")
    assert suggestions(page) == ["<rex> dog", "<rex>"]
    told = options.all_inner_texts()
    assert "rex.safetensors" in told[0] and "second.safetensors" in told[1]
    page.tab.wait_for_function(
        "[...document.querySelectorAll('.personalize-completion img')].every(i => i.naturalWidth)"
    )
    assert options.locator("img").count() == 2
    page.tab.keyboard.press("ArrowDown")
    page.tab.keyboard.press("Enter")
    assert studio.field.input_value() == "a <rex>" and len(studio.applies()) == 1
    loaded = page.tab.evaluate(
        "app.graph.nodes.find(n => n.type === 'PersonalizeLoadConcept').widgets[0].value"
    )
    assert loaded == "second.safetensors" and studio.hints() == []
    page.tab.keyboard.type(" <")
    assert suggestions(page)[0] == "<rex>"
    assert "applied here" in options.first.inner_text()


def test_the_shown_inputs_are_those_of_the_method_also_through_a_subgraph(page):
    names = """id => {
        const node = app.graph.getNodeById(id)
        return node.widgets.filter(w => !w.hidden).map(w => w.name)
    }"""
    load = page.add_node("PersonalizeLoadConcept", (0, 0), concept_name="pets/rex.safetensors")
    apply = page.add_node("PersonalizeApplyConcept", (400, 0))
    assert "local_strength" in page.tab.evaluate(names, apply)
    page.link(load, 0, apply, "concept")
    page.wait_for_frames(4)
    assert page.tab.evaluate(names, apply) == ["strength", "what_to_write"]
    page.set_widget(load, "concept_name", "my-dog.safetensors")
    page.tab.evaluate(
        """id => void app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]))""", load
    )
    page.load(page.saved())
    page.center_on(apply, 0.8)
    page.find(".personalize-reminder").filter(visible=True).get_by_text("DETEX").wait_for()
    assert page.tab.evaluate(names, apply) == ["strength", "own_prompts_only", "what_to_write"]


def test_the_server_tells_what_it_read(page, server):
    """A prompt past Apply Concept, and one whose CLIP comes from where the page cannot look."""
    studio = Studio(page, "tiny_sd1.safetensors")
    page.tab.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", studio.train)
    latent = page.add_node("EmptyLatentImage", (400, 600), width=64, height=64)
    saved = page.add_node("PreviewImage", (1800, 0))
    decode = page.add_node("VAEDecode", (1400, 0))
    page.link(latent, 0, studio.sample, "latent_image")
    page.link(studio.sample, 0, decode, "samples")
    page.link(studio.base, 2, decode, "vae")
    page.link(decode, 0, saved, "images")
    page.tab.evaluate(
        """() => {
            window.told = []
            import("/scripts/api.js").then(({ api }) => {
                for (const event of ["personalize.prompt", "personalize.unapplied"])
                    api.addEventListener(event, ({ detail }) => window.told.push([event, detail]))
            })
        }"""
    )
    studio.field.fill("a photo of <rex>")
    log = len(server.log())
    page.run()
    ((event, news),) = page.tab.evaluate("window.told")
    assert (event, news["unknown"]) == ("personalize.unapplied", ["<rex>"])
    assert "<rex> stays plain text" in server.log()[log:]

    page.find(".personalize-hints").get_by_role("button", name="Apply here").click()
    studio.field.fill("a photo of <rex> and <rexx>")
    page.run()
    event, news = page.tab.evaluate("window.told.at(-1)")
    assert event == "personalize.prompt" and news["node"] == str(studio.prompt)
    assert (news["recognised"], news["unknown"]) == (["<rex>"], ["<rexx>"])
    assert "did you mean <rex>?" in server.log()[log:]
    assert json.dumps(studio.hints()).count("<rexx>") == 1

    # the sampler's MODEL goes past what gives the other concept its weights
    studio.field.fill("a photo of <my-dog>")
    page.find(".personalize-hints").get_by_role("button", name="Apply here").click()
    page.link(studio.base, 0, studio.sample, "model")
    page.run()
    warning = page.find(TOAST).filter(has_text="Apply Concept")
    assert "<my-dog>: KSampler draws with a MODEL" in warning.inner_text()
    assert "the weights of <my-dog> are missing" in server.log()[log:]
