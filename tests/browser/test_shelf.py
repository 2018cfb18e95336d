"""A shelf of five hundred concepts: what is drawn and fetched, order, filters, versions, trash."""

import io
import shutil
import zipfile

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.files import save_concept
from personalize.tests.browser.test_concepts import TOAST, cards, folder, open_sidebar, put
from personalize.tools.server.page import Renderer
from safetensors.torch import save_file

__all__ = ["folder"]  # the fixture
pytestmark = [pytest.mark.server, pytest.mark.browser]

MANY = 500
MOST_DRAWN = 60  # of them: a few screens
NAMES = """() => [...document.querySelectorAll(".personalize-cards > .personalize-card")]
    .map(card => card.dataset.name)"""


def names(page):
    return page.tab.evaluate(NAMES)


def choose(page, label, value):
    page.find(f".personalize-choices select[aria-label='{label}']").select_option(value)


def test_only_what_is_seen_is_drawn_and_fetched(page, folder):
    put(folder / "many-1.safetensors", methods.TEXTUAL_INVERSION, "<one-1>", "dog")
    first = {suffix: folder / f"many-1{suffix}" for suffix in (".webp", ".safetensors")}
    for number in range(2, MANY + 1):
        name = f"thing {number}"  # no numbered version of another
        for suffix, file in first.items():
            shutil.copyfile(file, folder / f"{name}{suffix}")
    fetched = []
    page.tab.on("request", lambda one: "/concepts/picture" in one.url and fetched.append(one.url))
    open_sidebar(page)
    page.find(".personalize-card").nth(20).wait_for()
    choose(page, "Sort by", "name")
    page.wait_for_frames(10)
    assert cards(page).count() <= MOST_DRAWN and len(set(fetched)) <= MOST_DRAWN
    page.screenshot(f"shelf-{page.renderer.value}")

    # all are reached by scrolling, and the search stays where it is
    search = page.find(".personalize-shelf input")
    box = search.bounding_box()
    for _ in range(MANY):
        before = cards(page).count()
        cards(page).last.scroll_into_view_if_needed()
        page.wait_for_frames(4)
        if cards(page).count() == before:
            break
    assert cards(page).count() == MANY + 2  # and the two of the folder
    assert search.bounding_box() == box
    numbers = [name for name in names(page) if name.startswith("thing")]
    assert numbers[:3] == ["thing 2.safetensors", "thing 3.safetensors", "thing 4.safetensors"]
    search.fill("thing 499")
    page.wait_for_frames(4)
    assert names(page) == ["thing 499.safetensors"]
    assert cards(page).first.is_visible() and cards(page).first.bounding_box()["y"] < 400


def test_order_filters_versions_and_favourites(page, folder):
    for number in ("", "-2", "-10"):
        put(folder / f"mug{number}.safetensors", methods.TEXTUAL_INVERSION, "<mug>", "mug")
    open_sidebar(page)
    page.find(".personalize-card").first.wait_for()
    assert names(page)[0] == "mug-10.safetensors"  # the newest
    choose(page, "Sort by", "name")
    assert names(page) == ["mug-10.safetensors", "my-dog.safetensors", "pets/rex.safetensors"]
    older = page.find(".personalize-more")
    assert older.inner_text() == "2 older"
    older.click()
    versions = page.find(".personalize-versions .personalize-card")
    assert [one.get_attribute("data-name") for one in versions.all()] == [
        "mug-2.safetensors",
        "mug.safetensors",
    ]
    choose(page, "Any method", "detex")
    assert names(page) == ["my-dog.safetensors"]
    assert "DETEX · for Stable Diffusion 1.x" in cards(page).first.inner_text()

    star = page.find(".personalize-actions button[title='Favourite: my-dog.safetensors']")
    star.click()
    page.find("button[aria-pressed='true'][title^='Favourite: my-dog']").wait_for()
    choose(page, "Any method", "")
    page.find("button[title='Favourites only']").click()
    assert names(page) == ["my-dog.safetensors"]
    page.reload()
    page.clear()
    open_sidebar(page)
    page.find("button[aria-pressed='true'][title^='Favourite: my-dog']").wait_for()
    page.set_settings({"personalize.favourites": []})


@pytest.fixture
def checkpoints(server):
    """Two files, as far as their base model is told by them."""
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    folder = server.base_directory / "models" / "checkpoints"
    widths = {"as-sd1.safetensors": 768, "as-sdxl.safetensors": 2048}
    for name, width in widths.items():
        save_file({key: torch.ones(1, width)}, folder / name)
    yield list(widths)
    for name in widths:
        (folder / name).unlink()


def test_concepts_for_another_base_model_are_greyed_out(page, folder, checkpoints):
    sd1, sdxl = checkpoints
    words = {"": torch.ones(1, 2048)}
    concept = Concept(methods.TEXTUAL_INVERSION, "sdxl", 2048, "<hat>", "hat", words=words)
    save_concept(concept, folder / "hat.safetensors")
    open_sidebar(page)
    page.find(".personalize-card").first.wait_for()
    unfit = page.find(".personalize-unfit")
    assert unfit.count() == 0  # there is no model in the workflow
    loader = page.add_node("CheckpointLoaderSimple", (0, 0), ckpt_name=sdxl)
    page.change()
    page.find("[data-name='my-dog.safetensors'].personalize-unfit").wait_for()
    assert page.find("[data-name='hat.safetensors'].personalize-unfit").count() == 0
    assert unfit.first.get_by_text("Not for this workflow's model").is_visible()
    page.set_widget(loader, "ckpt_name", sd1)
    page.change()
    page.find("[data-name='hat.safetensors'].personalize-unfit").wait_for()
    assert unfit.count() == 1
    page.set_widget(loader, "ckpt_name", "tiny_sd1.safetensors")  # of no published width
    page.change()
    page.find(".personalize-unfit").wait_for(state="detached")


def test_the_trash_gives_back_and_a_concept_is_shared(page, folder):
    open_sidebar(page)
    page.find(".personalize-card").first.wait_for()
    with page.tab.expect_download() as download:
        page.find("button[title^='Download my-dog']").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert "my-dog.safetensors" in archive.namelist() and "my-dog.txt" in archive.namelist()
    page.find("button[title^='Delete my-dog']").click()
    page.find("[role=dialog]").get_by_role("button", name="Delete").click()
    page.find(".personalize-card[data-name='my-dog.safetensors']").wait_for(state="detached")
    page.find(".personalize-top button[title='Trash']").click()
    restore = page.find("button[title='Restore my-dog.safetensors']")
    restore.wait_for()
    heading, row = page.find(".personalize-shelf h2"), page.find(".personalize-cards")
    assert heading.inner_text() == "Trash" and "Deleted " in row.inner_text()
    restore.click()
    page.find(".personalize-state").get_by_text("The trash is empty.").wait_for()
    page.find(".personalize-top button[title='Trash']").click()
    page.find(".personalize-card[data-name='my-dog.safetensors']").wait_for()
    assert heading.inner_text() == "Concepts"
    assert (folder / "my-dog.safetensors").is_file()


def test_a_load_concept_with_a_missing_file_says_so(page):
    """And so does the Apply Concept that it feeds."""
    load = page.add_node("PersonalizeLoadConcept", (0, 0), concept_name="my-dog.safetensors")
    page.link(load, 0, page.add_node("PersonalizeApplyConcept", (450, 0)), "concept")
    saved = page.saved()
    for node in saved["nodes"]:
        values = node["widgets_values"]
        if "my-dog.safetensors" in values:
            values[values.index("my-dog.safetensors")] = "gone.safetensors"
    page.load(saved)
    page.center_on(load, 0.8)
    reminders = page.find(".personalize-reminder")
    for number in range(2):
        reminders.nth(number).get_by_text("gone.safetensors is not there").wait_for()
    # nothing is saved, as after an installation
    page.tab.evaluate("id => { app.graph.getNodeById(id).widgets[0].options.values = [] }", load)
    page.set_widget(load, "concept_name", "")
    page.change()
    for number in range(2):
        reminders.nth(number).get_by_text("No concept is saved yet").wait_for()
    cut = "all => all.filter(e => e.firstChild.scrollHeight > e.firstChild.clientHeight).length"
    assert reminders.evaluate_all(cut) == 0


@pytest.mark.parametrize("renderer", [Renderer.CANVAS])  # the sidebar is the same in both
def test_a_file_that_was_given_is_loaded_after_a_look(page, folder):
    """Refreshed, the nodes know it as well as the shelf; so does the shelf after R."""
    open_sidebar(page)
    page.find(".personalize-card").first.wait_for()
    put(folder / "given.safetensors", methods.CROSS_INIT, "<given>", "cat")
    page.find(".personalize-top button[title^='Refresh']").click()
    card = page.find(".personalize-card[data-name='given.safetensors']")
    card.locator("button[title^='Load']").click()
    listed = "app.graph.nodes.find(n => n.type === type).widgets[0].options.values"
    assert "given.safetensors" in page.tab.evaluate(f"type => {listed}", "PersonalizeLoadConcept")
    page.find(".personalize-reminder").first.get_by_text("<given> cat").wait_for()
    assert page.find(TOAST).count() == 0
    put(folder / "more.safetensors", methods.CROSS_INIT, "<more>", "cat")
    page.tab.evaluate("app.refreshComboInNodes()")  # what R does
    page.find(".personalize-card[data-name='more.safetensors']").wait_for()
