"""What is drawn for a step, and in which order: resumed trainings depend on it."""

from types import SimpleNamespace

import pytest
import torch
from personalize.host.latents import LatentPosterior
from personalize.training.batch import draw_batch
from personalize.training.detex import Detex, DetexConfig, DetexPictures
from personalize.training.pictures import EncodedPictures
from personalize.training.preservation import PicturesWithPrior, draw_with_prior

pytestmark = pytest.mark.host

SIZE, TIMESTEPS, SCALE = 3, 1000, 0.5
BACKBONE = SimpleNamespace(
    device=torch.device("cpu"),
    denoiser=SimpleNamespace(timesteps=TIMESTEPS, scale_latents=lambda latents: SCALE * latents),
)


def posterior(seed, count=4):
    generator = torch.Generator().manual_seed(seed)
    mean, std = torch.rand(2, count, 4, 2, 2, generator=generator)
    return LatentPosterior(mean, std)


def pictures(seed=0, flip=True):
    return EncodedPictures(posterior(seed), posterior(seed + 100) if flip else None)


class Expected:
    """The same draws, written out with torch alone."""

    def __init__(self, seed=7):
        self.generator = torch.Generator().manual_seed(seed)

    def sample(self, seen, index, mirrored):
        latents = self._sample(seen.upright, index)
        if seen.mirrored is None:
            return latents
        return torch.where(
            mirrored[:, None, None, None], self._sample(seen.mirrored, index), latents
        )

    def _sample(self, one, index):
        noise = torch.randn(one.mean[index].shape, generator=self.generator)
        return one.mean[index] + one.std[index] * noise

    def batch(self, seen, prompts=1):
        index = torch.randint(len(seen), (SIZE,), generator=self.generator)
        prompt = torch.randint(prompts, (SIZE,), generator=self.generator)
        mirrored = torch.rand(SIZE, generator=self.generator) < 0.5
        x0 = SCALE * self.sample(seen, index, mirrored)
        noise = torch.randn(x0.shape, generator=self.generator)
        t = torch.randint(TIMESTEPS, (SIZE,), generator=self.generator)
        return {
            "x0": x0, "noise": noise, "t": t, "index": index, "prompt": prompt,
            "mirrored": mirrored if seen.mirrored else torch.zeros_like(mirrored),
        }  # fmt: skip


def assert_batch(batch, expected):
    for name, tensor in expected.items():
        assert torch.equal(getattr(batch, name), tensor), name


@pytest.mark.parametrize("flip", [True, False])
def test_the_order_of_the_numbers(flip):
    seen = pictures(flip=flip)
    generator = torch.Generator().manual_seed(7)
    batch = draw_batch(seen, BACKBONE, generator, size=SIZE, prompts=5)
    expected = Expected()
    assert_batch(batch, expected.batch(seen, prompts=5))
    assert torch.equal(generator.get_state(), expected.generator.get_state())


def test_the_class_is_drawn_after_the_subject():
    seen = PicturesWithPrior(**vars(pictures()), prior=pictures(1, flip=False))
    generator = torch.Generator().manual_seed(7)
    batch = draw_with_prior(seen, BACKBONE, generator, size=SIZE, prompts=2)
    expected = Expected()
    assert_batch(batch, expected.batch(seen, prompts=2))
    assert_batch(batch.prior, expected.batch(seen.prior))
    assert torch.equal(generator.get_state(), expected.generator.get_state())


def test_without_class_pictures_nothing_more_is_drawn():
    seen, generator = PicturesWithPrior(**vars(pictures()), prior=None), torch.Generator()
    batch = draw_with_prior(seen, BACKBONE, generator.manual_seed(7), size=SIZE)
    expected = Expected()
    assert batch.prior is None
    assert_batch(batch, expected.batch(seen))
    assert torch.equal(generator.get_state(), expected.generator.get_state())


@pytest.mark.parametrize("blanked", [True, False])
def test_detex_draws_the_blanked_pictures_and_the_chance_last(blanked):
    seen = DetexPictures(
        **vars(pictures()),
        prior=pictures(1, flip=False),
        embeddings=torch.zeros(4, 2),
        masks=torch.ones(4, 16, 16),
        blanked=pictures(2) if blanked else None,
    )
    config = DetexConfig(placeholder="<it>", class_word="dog", batch_size=SIZE)
    learner = SimpleNamespace(pictures=seen, config=config)
    generator = torch.Generator().manual_seed(7)
    batch = Detex.draw(learner, BACKBONE, generator)
    expected = Expected()
    assert_batch(batch, expected.batch(seen))
    assert_batch(batch.prior, expected.batch(seen.prior))
    if blanked:
        assert_batch(
            batch, {"blanked": SCALE * expected.sample(seen.blanked, batch.index, batch.mirrored)}
        )
        assert_batch(batch, {"chance": torch.rand(SIZE, generator=expected.generator)})
    else:
        assert batch.blanked is None and batch.chance is None
    assert torch.equal(generator.get_state(), expected.generator.get_state())


def test_what_tells_one_training_from_another_keeps_its_order():
    """The key of a training's states is made of these tensors in this order."""
    own, prior, blanked = pictures(), pictures(1, flip=False), pictures(2)
    embeddings, masks = torch.zeros(4, 2), torch.ones(4, 16, 16)
    seen = DetexPictures(
        **vars(own), prior=prior, embeddings=embeddings, masks=masks, blanked=blanked
    )
    expected = [
        own.upright.mean, own.upright.std, own.mirrored.mean, own.mirrored.std,
        prior.upright.mean, prior.upright.std,
        embeddings, masks,
        blanked.upright.mean, blanked.upright.std, blanked.mirrored.mean, blanked.mirrored.std,
    ]  # fmt: skip
    assert [id(t) for t in seen.tensors()] == [id(t) for t in expected]


def test_the_class_doubles_what_goes_through_the_unet():
    own = pictures()
    assert own.batch_shape(3) == (3, 4, 2, 2)
    assert PicturesWithPrior(**vars(own), prior=None).batch_shape(3) == (3, 4, 2, 2)
    assert PicturesWithPrior(**vars(own), prior=own).batch_shape(3) == (6, 4, 2, 2)
