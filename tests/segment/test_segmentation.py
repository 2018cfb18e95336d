"""The choice among candidates, held against rendered masks, and what is made of the choice."""

import numpy as np
import pytest
import torch
from personalize.concepts.errors import PersonalizeError
from personalize.miniature.world import scene as scenes
from personalize.miniature.world.render import render
from personalize.segment.overlay import draw_overlay, draw_sheet
from personalize.segment.prompt import SegmentPrompt
from personalize.segment.segmentation import (
    Choice,
    Finish,
    finished,
    pick_subject,
    segment_pictures,
)

pytestmark = pytest.mark.host

PLAIN = Finish(fill_holes=0.0, largest_part=False)
MIDDLE = [SegmentPrompt()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from personalize.host.sam import load_sam
    from personalize.tests.sam_models import save_sam

    return load_sam(save_sam(tmp_path_factory.mktemp("sams") / "tiny.pth"))


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def rendered(count, seed=0):
    """Pictures of the world, things and people, with the mask of the subject."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        picture, mask = render(scenes.random_individual(rng))
        yield torch.from_numpy(picture) / 255, torch.from_numpy(mask) > 127, rng


def part_of(subject, rng, share):
    """The pixels of a subject around one of them, as many as a share of it."""
    ys, xs = np.nonzero(subject.numpy())
    n = rng.integers(len(ys))
    far = np.hypot(ys - ys[n], xs - xs[n])
    kept = np.argsort(far)[: max(1, int(share * len(ys)))]
    part = torch.zeros_like(subject)
    part[ys[kept], xs[kept]] = True
    return part


def test_the_whole_subject_is_picked_though_sam_is_surer_of_a_part():
    """Parts of a tenth and two fifths, each up to 0.05 surer; the order tells nothing."""
    picked = []
    for _, subject, rng in rendered(60):
        candidates = [subject, part_of(subject, rng, 0.1), part_of(subject, rng, 0.4)]
        quality = [0.9, *(0.9 + 0.05 * rng.random(2))]
        order = rng.permutation(3)
        chosen = pick_subject(
            torch.stack([candidates[i] for i in order]), torch.tensor([quality[i] for i in order])
        )
        picked.append(order[chosen] == 0)
    assert np.mean(picked) >= 0.95


@pytest.mark.parametrize("other", ["background", "whole picture", "with the ground"])
def test_neither_the_background_nor_the_whole_picture_is_picked(other):
    picked = []
    for _, subject, rng in rendered(40, seed=1):
        wrong = ~subject if other == "background" else torch.ones_like(subject)
        if other == "with the ground":  # from side to side
            wrong = subject.clone()
            wrong[90:] = True
        candidates = torch.stack([part_of(subject, rng, 0.3), wrong, subject])
        picked.append(pick_subject(candidates, torch.tensor([0.9, 0.9, 0.9])) == 2)
    assert np.mean(picked) >= 0.95


def test_what_sam_is_unsure_of_is_not_picked():
    for _, subject, _ in rendered(10, seed=2):
        ragged = subject | (pictures(*subject.shape) > 0.9)
        candidates = torch.stack([ragged, subject])
        assert pick_subject(candidates, torch.tensor([0.5, 0.95])) == 1
    nothing = torch.zeros(3, 8, 8, dtype=torch.bool)
    assert pick_subject(nothing, torch.tensor([-0.1, 0.2, 0.0])) in (0, 1, 2)


def test_the_finish_brings_a_ragged_mask_nearer_to_the_rendered_one():
    def overlap(one, other):
        return ((one > 0.5) & (other > 0.5)).sum() / ((one > 0.5) | (other > 0.5)).sum()

    before, after = [], []
    for _, subject, rng in rendered(20, seed=3):
        ragged = subject.clone()
        for _ in range(6):  # specks and holes of 3 x 3
            y, x = rng.integers(2, 123, 2)
            ragged[y : y + 3, x : x + 3] ^= True
        before.append(overlap(ragged, subject))
        after.append(overlap(finished(ragged.float(), Finish()), subject))
    assert np.mean(after) > np.mean(before)
    assert np.mean(after) > 0.98


def test_one_point_takes_a_candidate_and_a_plain_prompt_the_fourth_mask(model):
    from personalize.host.sam import predict_masks

    image = pictures(1, 40, 50, 3)
    ((one,),) = segment_pictures(model, [image], MIDDLE, finish=PLAIN)
    middle = [(24.5, 19.5)]
    candidates, quality = predict_masks(model, image[0], middle, [1])
    assert torch.equal(one.candidates, candidates.float()) and torch.equal(one.quality, quality)
    assert one.chosen == pick_subject(candidates, quality)
    assert torch.equal(one.mask, candidates[one.chosen].float())
    ((boxed,),) = segment_pictures(
        model, [image], [SegmentPrompt.parse(box="10%, 10%, 90%, 90%")], finish=PLAIN
    )
    box = tuple(p * s for p, s in zip((0.1, 0.1, 0.9, 0.9), (49, 39) * 2, strict=True))
    fourth = predict_masks(model, image[0], box=box, several=False)[0]
    assert boxed.chosen is None and torch.equal(boxed.mask, fourth[0].float())


@pytest.mark.parametrize("choice", [Choice.FIRST, Choice.SECOND, Choice.THIRD])
def test_a_candidate_may_be_chosen(model, choice):
    finish = Finish(choice, 0.0, False)
    ((one,),) = segment_pictures(model, [pictures(1, 40, 50, 3)], MIDDLE, finish=finish)
    assert torch.equal(one.mask, one.candidates[int(choice.value) - 1])


def test_pictures_of_any_kind_and_size_keep_their_order(model):
    images = [pictures(2, 40, 50, 3), pictures(30, 60, 3, seed=1), pictures(1, 32, 32, 4, seed=2)]
    seen = []
    batches = segment_pictures(
        model, images, MIDDLE, finish=PLAIN, report=lambda *now: seen.append(now)
    )
    assert seen == [(n, 4) for n in range(5)]
    sizes = [[one.mask.shape for one in batch] for batch in batches]
    assert sizes == [[(40, 50)] * 2, [(30, 60)], [(32, 32)]]
    ((alone,),) = segment_pictures(model, [images[0][1]], MIDDLE, finish=PLAIN)
    assert torch.equal(alone.mask, batches[0][1].mask)
    rgb, alpha = images[2][0, ..., :3], images[2][0, ..., 3:]
    assert torch.equal(batches[2][0].picture, rgb * alpha + (1 - alpha))


def test_each_batch_may_have_its_own_prompt(model):
    images = [pictures(1, 40, 50, 3)] * 3
    prompts = [SegmentPrompt.parse("3, 4"), SegmentPrompt.parse("45, 30")]
    batches = segment_pictures(model, images, prompts, finish=PLAIN)
    assert [batch[0].prompt.points for batch in batches] == [((3, 4),), ((45, 30),), ((45, 30),)]


@pytest.mark.parametrize(
    ("images", "texts", "says"),
    [
        ([], (), "There is no picture to segment. Connect"),
        ([torch.zeros(0, 8, 8, 3)], (), "There is no picture to segment"),
        ([torch.rand(1, 8, 200, 3)], (), "Picture 1 has 200x8 pixels. Expected at least 16"),
        ([torch.rand(1, 16, 900, 3)], (), "no side longer than 32 times"),
        ([torch.full((1, 40, 40, 3), torch.nan)], (), "Picture 1 holds NaN"),
        ([torch.rand(40, 40)], (), "Is it a mask"),
        (
            [torch.rand(1, 40, 50, 3), torch.rand(1, 20, 20, 3)],
            ("45, 10",),
            r"point 45, 10 lies outside of picture 2 \(20x20\).*write per cent",
        ),
    ],
)
def test_pictures_and_prompts_that_cannot_be(model, images, texts, says):
    with pytest.raises(PersonalizeError, match=says):
        segment_pictures(model, images, [SegmentPrompt.parse(*texts)], finish=PLAIN)


def test_the_overlay_shows_subject_edge_and_prompt(model):
    prompt = [SegmentPrompt.parse("25%, 50%", "90%, 90%", "5%, 5%, 80%, 80%")]
    ((one,),) = segment_pictures(model, [torch.full((1, 200, 300, 3), 0.5)], prompt, finish=PLAIN)
    one.mask.zero_()
    one.mask[40:160, 60:240] = 1
    overlay = draw_overlay(one)
    assert overlay.shape == (200, 300, 3) and overlay.min() >= 0 and overlay.max() <= 1
    assert overlay[150, 200].tolist() == pytest.approx([0.5] * 3, abs=0.01)
    assert overlay[190, 20].tolist() == pytest.approx([0.15] * 3, abs=0.01)
    assert overlay[100, 240].tolist() == pytest.approx([1, 210 / 255, 0], abs=0.01)
    on, beside = overlay[96, 73], overlay[176, 269]  # within the round of the points
    assert on[1] > on[0] and beside[0] > beside[1]
    sheet = draw_sheet(one)
    assert sheet.shape[0] == 192 + 22 and sheet.shape[1] == 4 * 288 + 3 * 6
    assert torch.equal(one.picture, torch.full((200, 300, 3), 0.5))
