"""Masks of any node are read alike, and those of other pictures are refused."""

import pytest
import torch
from personalize.concepts.errors import PersonalizeError
from personalize.pictures.masks import MaskMarks, has_own_masks, read_masks, square_masks


def left_half(count=1, height=40, width=60):
    mask = torch.zeros(count, height, width)
    mask[..., : width // 2] = 1
    return mask


PICTURES = torch.rand(2, 40, 60, 3)


@pytest.mark.parametrize(
    "given",
    [
        left_half(2),
        [left_half(2)],
        [left_half(), left_half()],
        [left_half()[0], left_half()[0]],
        left_half(2)[:, None],
        left_half(2)[..., None],
        left_half(2)[..., None].expand(-1, -1, -1, 3),
        left_half(2) > 0,
        (left_half(2) * 255).byte(),
        left_half(2).half(),
        left_half(2) * 3 - 1,
        [left_half(1, 80, 120), left_half(1, 20, 30)],
    ],
    ids=[
        *("batch", "list of a batch", "list", "list of single ones", "channel first"),
        *("channel last", "colours", "booleans", "bytes", "half", "beyond 0..1", "other sizes"),
    ],
)
def test_every_way_of_giving_a_mask_reads_the_same(given):
    read = read_masks(given, PICTURES)
    assert [mask.dtype for mask in read] == [torch.float32] * 2
    assert all(torch.equal(mask, left_half()[0]) for mask in read)


def test_pictures_of_several_sizes():
    pictures = [torch.rand(40, 60, 3), torch.rand(30, 20, 3)]
    first, second = read_masks([left_half(), left_half(1, 60, 40)], pictures)
    assert first.shape == (40, 60) and torch.equal(second, left_half(1, 30, 20)[0])


def test_soft_masks_stay_soft_and_the_given_one_as_it_was():
    soft = torch.linspace(-0.5, 1.5, 60).expand(1, 40, 60).contiguous()
    before = soft.clone()
    (read,) = read_masks(soft, PICTURES[:1])
    assert torch.equal(read, before[0].clamp(0, 1)) and torch.equal(soft, before)
    with torch.inference_mode():
        upstream = left_half(2)
    read = read_masks(upstream, PICTURES)
    assert not any(mask.is_inference() for mask in read)


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        (left_half(), "for each picture, got 1 masks and 2 pictures"),
        ([], "got 0 masks and 2 pictures"),
        (torch.zeros(2, 40, 60), r"Mask 1 \(60x40\) is empty.*leave the masks unconnected"),
        ([left_half(), torch.zeros(1, 64, 64)], r"Mask 2 \(64x64\) is empty"),
        (left_half(2, 40, 40), "Mask 1 has 40x40 pixels, but its picture has 60x40.*this very"),
        (left_half(2) * torch.nan, "Mask 1 holds NaN"),
        (torch.rand(2, 40, 60, 7), r"got \(2, 40, 60, 7\). Connect a MASK"),
        (torch.rand(2), r"got \(2,\)"),
        ("²", "Expected masks, got '²'. Connect a MASK."),
        ([None, None], "Expected masks, got 'None'"),
    ],
)
def test_masks_that_cannot_be(masks, says):
    with pytest.raises(PersonalizeError, match=says):
        read_masks(masks, PICTURES)


def disc(radius, centre=(0.5, 0.5), height=40, width=60):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    down, across = rows - centre[0] * (height - 1), columns - centre[1] * (width - 1)
    return (down**2 + across**2 <= (radius * height) ** 2).float()


def portrait():
    """Head and shoulders, cut off by the lower border."""
    mask = torch.maximum(disc(0.25, (0.4, 0.5)), disc(0.45, (1.1, 0.5)))
    assert mask[-1].any()
    return mask


SUBJECTS = {
    "in the middle": disc(0.3),
    "beside the middle": disc(0.25, (0.5, 0.25)),
    "large": disc(0.7),
    "in a corner": disc(0.4, (0.1, 0.1)),
    "portrait": portrait(),
    "everything": torch.ones(40, 60),
    "left half": left_half()[0],
    "wreath": disc(0.5) - disc(0.35),
}
SUBJECTS["with a speck"] = 1 - disc(0.05)
BACKGROUNDS = {n: 1 - SUBJECTS[n] for n in ("in the middle", "beside the middle", "portrait")}


@pytest.mark.parametrize("name", SUBJECTS)
def test_masks_of_subjects_stay_as_they_are(name):
    told = []
    (read,) = read_masks([SUBJECTS[name]], PICTURES[:1], warn=told.append)
    assert torch.equal(read, SUBJECTS[name]) and not told


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_masks_of_backgrounds_are_turned_over_and_told(name):
    """As Load Image gives them for a cut-out: 1 where it is transparent."""
    told = []
    read = read_masks([disc(0.3), BACKGROUNDS[name]], PICTURES, warn=told.append)
    assert torch.equal(read[0], disc(0.3)) and torch.equal(read[1], SUBJECTS[name])
    (line,) = told
    assert line.startswith("Mask 2 is white along the border and not in the middle")
    assert line.endswith("set mask_marks to subject.")


def test_what_is_said_of_masks_holds_for_all_of_them():
    given, told = [disc(0.3), BACKGROUNDS["portrait"]], []
    subject = read_masks(given, PICTURES, MaskMarks.SUBJECT, told.append)
    background = read_masks(given, PICTURES, MaskMarks.BACKGROUND, told.append)
    assert all(map(torch.equal, subject, given)) and not told
    assert all(torch.equal(one, 1 - other) for one, other in zip(background, given, strict=True))
    with pytest.raises(PersonalizeError, match="Mask 1 marks the whole picture as background"):
        read_masks([torch.ones(40, 60)], PICTURES[:1], MaskMarks.BACKGROUND)


def test_the_log_tells_of_it_where_nobody_else_does(caplog):
    read_masks([BACKGROUNDS["portrait"]], PICTURES[:1])
    assert "turned over" in caplog.text


def cut_outs(*masks):
    return [torch.cat([torch.rand(40, 60, 3), mask[..., None]], dim=-1) for mask in masks]


def test_cut_outs_bring_their_masks():
    pictures = cut_outs(disc(0.3), disc(0.2) * 0.7)
    own = read_masks([], pictures)
    assert torch.equal(own[0], disc(0.3)) and torch.equal(own[1], disc(0.2) * 0.7)
    assert torch.equal(read_masks([portrait()] * 2, pictures)[0], portrait())
    squares = square_masks([], pictures, 40)
    assert torch.equal(squares[0], disc(0.3)[:, 10:50])
    with pytest.raises(PersonalizeError, match="Nothing in picture 2 is opaque"):
        read_masks([], cut_outs(disc(0.3), torch.zeros(40, 60)))


def test_which_pictures_are_cut_outs():
    assert has_own_masks(cut_outs(disc(0.3), disc(0.2)))
    assert not has_own_masks(cut_outs(disc(0.3), torch.ones(40, 60)))
    assert not has_own_masks(PICTURES) and not has_own_masks([])
