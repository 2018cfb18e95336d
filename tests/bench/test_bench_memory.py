"""The tables of cards in docs/guide.md and docs/bench.md are one count's."""

import re

import pytest
from personalize.bench.bench_memory import (
    METHODS,
    SETTINGS,
    Row,
    cards_table,
    learned_bytes,
    text_model,
)
from personalize.bench.random_weights import SD15_UNET, SDXL_UNET
from personalize.cli.comfyui import ROOT

pytestmark = pytest.mark.host


def told_rows():
    page = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    table = page.split("make bench ARGS=memory", 1)[1]
    return [Row.of_line(line) for line in re.findall(r"^\| S.*\|$", table, re.MULTILINE)]


def test_the_page_tells_every_method_in_every_setting():
    wanted = [(setting.title, method.title) for setting in SETTINGS for method in METHODS]
    assert [(row.setting, row.method) for row in told_rows()] == wanted


def test_the_guides_table_of_cards_is_that_of_the_page():
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert cards_table(told_rows()) in guide


def test_a_card_is_not_given_whole():
    for step, card in ((1.0, "8 GB"), (1.1, "12 GB"), (17.0, "24 GB"), (17.1, "more than 24 GB")):
        assert Row("base", "method", 5.0, 1.0, step, 0.0).card == card


def test_the_shapes_are_those_of_the_published_models():
    """Parameters as they are known: of the UNets, the text encoders, and the keys and values."""
    import torch
    from personalize.host.footprint import meta_unet, weight_bytes

    unets = [meta_unet(shapes, torch.float16) for shapes in (SD15_UNET, SDXL_UNET)]
    millions = [weight_bytes(unet) / 2e6 for unet in unets]
    assert millions == pytest.approx([859.5, 2567.5], abs=0.1)
    texts = [weight_bytes(text_model(base)) / 2e6 for base in ("sd1", "sdxl")]
    assert texts == pytest.approx([123.1, 817.7], rel=0.01)
    whole = next(m for m in METHODS if m.rank == 0 and not m.mapper)
    assert learned_bytes(whole, "sdxl", unets[1]) / 12e6 == pytest.approx(340.8, abs=0.1)
