"""Every method on Stable Diffusion XL as people meet it: it learns, says so, draws and is kept."""

import shutil

import pytest
from personalize.tests.browser.test_concepts import open_sidebar
from personalize.tests.browser.test_live_training import panel, wait_for_stage
from personalize.tests.test_end_to_end import (
    TRAINERS,
    applied,
    draw_picture,
    learning,
    sampling,
    saved,
)
from personalize.tools.server.page import Renderer

pytestmark = [pytest.mark.server, pytest.mark.browser, pytest.mark.slow]

SHORT = {"steps": 2, "preview_every": 1, "train_seed": 7}


@pytest.fixture(autouse=True)
def no_concepts(server):
    shutil.rmtree(server.base_directory / "output" / "concepts", ignore_errors=True)


@pytest.mark.parametrize("renderer", [Renderer.NODES_2], indirect=True)
def test_every_method_learns_draws_and_is_on_the_shelf(page, server):
    """In one page, with the tiny model; the base is told by the concept's card."""
    names = [server.client.upload_image("ball.png", draw_picture(0, (96, 96)))]
    for method in TRAINERS:
        nodes = learning(server, names, method)
        train = "train" if method == "ELITE" else "concept"
        nodes[train]["inputs"] |= SHORT
        nodes |= saved(method, "concept") | applied(("concept", 0))
        nodes |= sampling("a photo of <ball>", ("apply", 0), ("apply", 1))
        ids = page.load_prompt(nodes)
        page.center_on(ids[train], 0.8)
        run = page.run()
        wait_for_stage(page, "Learned")
        assert panel(page).get_by_role("alert").count() == 0, method
        (drawn,) = run.outputs[str(ids["draw_save"])]["images"]
        assert server.client.fetch(drawn).startswith(b"\x89PNG"), method
    open_sidebar(page)
    for method in TRAINERS:
        card = page.find(f".personalize-card[data-name='{method}.safetensors']")
        card.get_by_text("for Stable Diffusion XL").wait_for()
        assert card.get_attribute("data-base") == "sdxl"
