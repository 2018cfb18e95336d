"""Letters that Pillow's own font lacks."""

import numpy as np
import pytest
import torch
from personalize.pictures.fonts import east_asian_font, font_for, letters_in
from personalize.pictures.grid import labelled_grid
from PIL import Image, ImageDraw, ImageFont

RED, CHINESE = "a red dog", "红色的狗"


@pytest.fixture
def has_font():
    if east_asian_font(15) is None:
        pytest.skip("this system has no font with Chinese letters, such as fonts-noto-cjk")


def drawn(text):
    """Its pixels."""
    canvas = Image.new("L", (200, 40))
    ImageDraw.Draw(canvas).text((0, 0), text, 255, font_for(text, 24))
    return np.asarray(canvas)


def test_english_is_drawn_as_ever():
    assert font_for(RED, 15).getlength(RED) == ImageFont.load_default(15).getlength(RED)


def test_chinese_letters_are_drawn_and_no_boxes(has_font):
    one, other = drawn("红"), drawn("狗")
    assert one.any() and other.any() and (one != other).any()


def test_chinese_labels_stay_in_their_column(has_font):
    for width in (80, 160, 320):
        line = "红" * letters_in(CHINESE, width, 15)
        assert font_for(line, 15).getlength(line) <= width
    grey = torch.full((1, 64, 64, 3), 0.5)
    pages = [labelled_grid(grey, [[label * 9]], [""]) for label in ("红狗", "蓝猫")]
    assert pages[0].shape == pages[1].shape and not torch.equal(*pages)
    for page in pages:  # the picture is whole
        assert ((page[0] - 0.5).abs().amax(dim=-1) < 0.003).sum() >= 64 * 64
