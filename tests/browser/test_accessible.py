"""For everybody: contrast in dark and light themes, reached by keys, in one's language."""

import shutil

import pytest
from personalize.concepts import methods
from personalize.tests.browser.test_concepts import open_sidebar, put
from personalize.tools.server.page import Renderer

pytestmark = [pytest.mark.server, pytest.mark.browser]

LEAST_CONTRAST = 4.5  # WCAG 2, level AA, for text of any size
TEXTS = (
    ".personalize-shelf h2",
    ".personalize-card strong",
    ".personalize-card code",
    ".personalize-card .personalize-lines span",
    ".personalize-icon",
    ".personalize-choices select",
    ".personalize-reminder p",
    ".personalize-live .hint",
    ".personalize-live .controls button:not(:disabled)",
    ".personalize-live .stage",
)
CONTRAST = """selector => {
    const paint = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    const context = paint.getContext("2d", { willReadFrequently: true })
    const element = document.querySelector(selector)
    const around = []
    for (let at = element; at; at = at.parentElement) around.unshift(at)
    context.fillStyle = "white"
    context.fillRect(0, 0, 1, 1)
    const put = colour => {
        context.fillStyle = colour
        context.fillRect(0, 0, 1, 1)
        return [...context.getImageData(0, 0, 1, 1).data]
    }
    let behind = null
    for (const one of around) behind = put(getComputedStyle(one).backgroundColor)
    const light = ([r, g, b]) => {
        const linear = [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }
    const [low, high] = [light(behind), light(put(getComputedStyle(element).color))]
        .sort((a, b) => a - b)
    return (high + 0.05) / (low + 0.05)
}"""
FOCUSED = """() => {
    const { className, tagName, title } = document.activeElement
    return [tagName, typeof className === "string" ? className : "", title ?? ""]
}"""


@pytest.fixture(autouse=True)
def one_concept(server):
    folder = server.base_directory / "output" / "concepts"
    shutil.rmtree(folder, ignore_errors=True)
    put(folder / "my-dog.safetensors", methods.DETEX, "<my-dog>", "dog", ("pose1",))
    yield
    shutil.rmtree(folder, ignore_errors=True)


def show_everything(page, **settings):
    """Sidebar, live panel and reminder in one view, with these settings."""
    page.set_settings({f"Comfy.{name}": value for name, value in settings.items()})
    page.reload()
    page.clear()
    train = page.add_node("PersonalizeTrainTextualInversion", (0, 0))
    page.add_node("PersonalizeApplyConcept", (450, 0))
    page.center_on(train, 0.6)
    open_sidebar(page)
    page.find(".personalize-card").wait_for()


def poor(page):
    """Texts that are hard to read, with their contrast."""
    found = {selector: page.tab.evaluate(CONTRAST, selector) for selector in TEXTS}
    return {selector: ratio for selector, ratio in found.items() if ratio < LEAST_CONTRAST}


def test_texts_are_legible_in_both_themes_and_in_chinese(page):
    show_everything(page, ColorPalette="dark")
    assert poor(page) == {}
    try:
        show_everything(page, ColorPalette="light", Locale="zh")
        page.screenshot(f"light-chinese-{page.renderer.value}")
        assert poor(page) == {}
        assert page.find(".personalize-shelf h2").inner_text() == "概念"
        live = page.find(".personalize-live").first
        assert "停止并保留" in live.inner_text() and "训练时" in live.inner_text()
        assert "提示词" in page.find(".personalize-reminder").first.inner_text()
    finally:
        page.set_settings({"Comfy.ColorPalette": "dark", "Comfy.Locale": "en"})


def test_everything_is_reached_by_keys(page):
    show_everything(page)
    page.find(".personalize-choices select").last.focus()
    reached = []
    for _ in range(7):
        page.tab.keyboard.press("Tab")
        reached.append(page.tab.evaluate(FOCUSED))
    assert [tag for tag, *_ in reached] == ["BUTTON"] * 7
    assert "personalize-main" in reached[0][1] and "my-dog" in reached[0][2]
    assert [title.split()[0] for *_, title in reached[1:]] == [
        "Load",
        "Training",
        "Favourite:",
        "Download",
        "Rename",
        "Delete",
    ]
    page.tab.keyboard.press("Enter")  # on Delete: it asks, and Escape goes back
    page.find("[role=dialog]").wait_for()
    page.tab.keyboard.press("Escape")
    page.find("[role=dialog]").wait_for(state="detached")
    assert page.find(".personalize-card").count() == 1

    log = page.find(".personalize-live").get_by_role("button", name="log")
    log.focus()
    page.tab.keyboard.press("Enter")
    assert log.get_attribute("aria-pressed") == "true"


def focused(page):
    return page.tab.evaluate(FOCUSED)[-1]


def press_on(page, title):
    page.find(f".personalize-shelf button[title^='{title}']").focus()
    page.tab.keyboard.press("Enter")


def wait_for_focus(page, title):
    page.tab.wait_for_function("t => document.activeElement.title.startsWith(t)", arg=title)


@pytest.mark.parametrize("renderer", [Renderer.CANVAS])  # the sidebar is the same in both
def test_focus_comes_back_to_the_shelf(page):
    """Rename, delete, favourite and restore by keys alone, without a way from the page's start."""
    show_everything(page)
    press_on(page, "Favourite: my-dog")
    page.find("button[aria-pressed='true'][title^='Favourite: my-dog']").wait_for()
    page.wait_for_frames(10)  # a changed setting draws the sidebar anew
    assert focused(page) == "Favourite: my-dog.safetensors"

    press_on(page, "Rename my-dog")
    page.find("[role=dialog] input").wait_for()
    page.tab.keyboard.press("Escape")
    wait_for_focus(page, "Rename my-dog")
    page.tab.keyboard.press("Enter")
    page.find("[role=dialog] input").fill("rex")
    page.tab.keyboard.press("Enter")
    wait_for_focus(page, "Rename rex")
    page.tab.wait_for_function(  # or it is asked for when the concept is gone
        "[...document.querySelectorAll('.personalize-card img')].every(i => i.naturalWidth > 0)"
    )

    press_on(page, "Delete rex")
    page.find("[role=dialog]").get_by_role("button", name="Delete").focus()
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_function("document.activeElement.type === 'search'")  # no card is left
    press_on(page, "Trash")
    page.find("button[title^='Restore rex']").wait_for()
    press_on(page, "Restore rex")
    wait_for_focus(page, "Trash")
    page.set_settings({"personalize.favourites": []})


@pytest.mark.parametrize("renderer", [Renderer.CANVAS])  # the sidebar is the same in both
def test_the_shelf_fits_a_narrow_sidebar(page):
    show_everything(page)
    page.tab.evaluate(
        """() => {
            const { style } = document.querySelector(".personalize-shelf").parentElement
            style.width = style.maxWidth = "300px"
        }"""
    )
    page.wait_for_frames(4)
    outside = page.tab.evaluate(
        """() => {
            const shelf = document.querySelector(".personalize-shelf")
            const right = shelf.getBoundingClientRect().left + 300
            return [...shelf.querySelectorAll("*")]
                .filter(one => one.getBoundingClientRect().right > right + 1)
                .map(one => `${one.tagName} ${one.className}`)
        }"""
    )
    page.screenshot("narrow-shelf")
    assert outside == []
