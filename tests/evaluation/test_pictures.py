"""Pictures and prompts as a node gets them."""

import pytest
import torch
from personalize.concepts.errors import EvaluationError, PersonalizeError
from personalize.evaluation.pictures import (
    BLACK,
    WHITE,
    Picture,
    prompts_of_pictures,
    read_pictures,
    with_masks,
)


def test_batches_and_single_pictures_of_any_size():
    read = read_pictures(
        [torch.rand(2, 8, 9, 3), torch.rand(5, 4, 3), torch.rand(1, 6, 6, 1)], "generated"
    )
    assert [tuple(p.shape) for p in read] == [(8, 9, 3), (8, 9, 3), (5, 4, 3), (6, 6, 3)]
    assert {p.dtype for p in read} == {torch.uint8}


def test_a_loaded_picture_keeps_its_bytes():
    """LoadImage divides by 255: every byte comes back, none is cut to the one below."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    (read,) = read_pictures([values.float() / 255], "generated")
    assert torch.equal(read[..., 0].flatten(), values.flatten())


def test_transparent_pixels_become_white():
    clear = torch.zeros(1, 2, 2, 4)
    (read,) = read_pictures([clear], "generated")
    assert (read == 255).all()


def test_inference_tensors_and_values_out_of_range():
    with torch.inference_mode():
        picture = torch.full((1, 2, 2, 3), 1.5)
    assert (read_pictures([picture], "generated")[0] == 255).all()


@pytest.mark.parametrize("images, told", [
    ([], "There are no reference pictures"),
    ([torch.zeros(0, 4, 4, 3)], "There are no reference pictures"),
    ([torch.rand(3, 8, 8)], r"got \(3, 8, 8\). Is it a mask"),
    ([torch.full((1, 4, 4, 3), float("nan"))], "reference picture 1 holds NaN"),
])  # fmt: skip
def test_what_is_no_picture(images, told):
    with pytest.raises(PersonalizeError, match=told):
        read_pictures(images, "reference")


def test_the_subject_alone():
    pixels = torch.full((1, 2, 3), 100, dtype=torch.uint8)
    (picture,) = with_masks([pixels], [torch.tensor([[1.0, 0.0]])])
    assert picture.subject_on(WHITE).tobytes() == bytes([100] * 3 + [255] * 3)
    assert picture.subject_on(BLACK).tobytes() == bytes([100] * 3 + [0] * 3)
    with pytest.raises(EvaluationError, match="has no mask"):
        Picture(pixels.numpy()).subject_on(WHITE)


IMAGES = [torch.rand(2, 4, 4, 3), torch.rand(4, 4, 3)]


@pytest.mark.parametrize("prompts, each", [
    (["a"], ["a", "a", "a"]),
    (["a", "b"], ["a", "a", "b"]),
    (["a", "b", "c"], ["a", "b", "c"]),
])  # fmt: skip
def test_one_prompt_for_all_a_batch_or_a_picture(prompts, each):
    assert prompts_of_pictures(prompts, IMAGES) == each


def test_another_number_of_prompts():
    with pytest.raises(EvaluationError, match="Got 4 prompts for 3 generated pictures in 2"):
        prompts_of_pictures(list("abcd"), IMAGES)
