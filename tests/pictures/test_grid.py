"""A labelled grid: every picture in its place, every name beside it."""

import pytest
import torch
from personalize.pictures.grid import GAP, LABEL, LARGEST_CELL, MARGIN, SMALLEST_CELL, labelled_grid


def pictures(count, side=200, height=None):
    """Each of an even grey of its own."""
    greys = torch.linspace(0.2, 0.8, count).view(-1, 1, 1, 1)
    return greys.expand(count, height or side, side, 3)


def find(page, grey):
    """Top, left, height and width of what has a grey."""
    where = ((page[0] - grey).abs().amax(dim=-1) < 0.003).nonzero()
    (top, left), (bottom, right) = where.amin(dim=0).tolist(), where.amax(dim=0).tolist()
    assert len(where) == (bottom - top + 1) * (right - left + 1)
    return top, left, bottom - top + 1, right - left + 1


@pytest.mark.parametrize("captions", [(), [f"CLIP-T 0.{n}" for n in range(6)]])
def test_each_picture_stands_in_its_row_and_column(captions):
    many = pictures(6)
    page = labelled_grid(many, [["one"], ["two"]], ["a", "b", "c"], captions)
    assert page.dtype == torch.float32 and page.shape[0] == 1 and page.max() == 1
    places = [find(page, many[n, 0, 0, 0]) for n in range(6)]
    tops, lefts = sorted({p[0] for p in places}), sorted({p[1] for p in places})
    assert [p[:2] for p in places] == [(top, left) for top in tops for left in lefts]
    assert {p[2:] for p in places} == {(200, 200)}
    assert lefts[0] == MARGIN + LABEL and lefts[1] - lefts[0] == 200 + GAP
    assert page.shape[1] > tops[1] + 200 and page.shape[2] > lefts[2] + 200


@pytest.mark.parametrize(
    ("side", "height", "shown"),
    [
        (64, 64, (SMALLEST_CELL, SMALLEST_CELL)),
        (256, 128, (128, 256)),
        (1024, 512, (LARGEST_CELL // 2, LARGEST_CELL)),
    ],
)
def test_pictures_are_shown_at_a_size_one_can_see(side, height, shown):
    many = pictures(1, side, height)
    page = labelled_grid(many, [["one"]], ["a"])
    assert find(page, many[0, 0, 0, 0])[2:] == shown


def ink(page):
    return (page < 0.5).any(dim=-1)[0]


def test_names_are_written_beside_and_above():
    many = torch.ones(2, 128, 128, 3)
    empty = ink(labelled_grid(many, [[""], [""]], [""]))
    assert not empty.any()
    named = labelled_grid(many, [["<my-dog>", "DETEX"], ["<me>"]], ["a photo of {}"])
    rows = ink(named)[:, : MARGIN + LABEL].any(dim=1)
    assert rows[: len(rows) // 2].any() and rows[len(rows) // 2 :].any()
    assert ink(named)[: MARGIN + 19, MARGIN + LABEL :].any()


def test_long_names_are_wrapped_and_cut():
    long = "a photo of {} on the beach at sunset, " * 9
    page = labelled_grid(torch.ones(2, 128, 128, 3), [["<a>"], ["<b>" * 40]], [long])
    margin = ink(page)[:, -MARGIN + GAP :]
    assert not margin.any() and page.shape[1] < 500
