"""What a second subject's training takes of the sources."""

import pytest
import torch

pytestmark = pytest.mark.host


def test_the_second_subject_has_its_own_pictures_and_no_captions():
    from personalize.training.sources import Sources

    one, two, class_one, class_two = (torch.full((1, 2, 2, 3), n / 4) for n in range(4))
    given = Sources(
        model="model", clip="clip", vae="vae", images=[one], prior_images=[class_one],
        second_images=[two], second_prior_images=[class_two], captions=["a dog"],
    )  # fmt: skip
    second = given.of_second()
    assert (second.images, second.prior_images) == ([two], [class_two])
    assert second.captions == () and second.all_images == [two]
    assert second.model == "model" and given.all_images == [one, two]
