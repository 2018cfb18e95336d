"""Batches of an ELITE training: which tensor of which example goes where."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.vision import VisionShape
from personalize.host.latents import LatentPosterior
from personalize.tests.training.toy import toy_backbone
from personalize.training.descent import Alone
from personalize.training.elite import batches as module
from personalize.training.elite.batches import EliteBatches
from personalize.training.elite.config import EliteConfig
from personalize.training.elite.examples import Example

pytestmark = pytest.mark.host

COUNT, SIDE = 2, (4, 6)  # pictures are no squares here, so that no axis is another


def example(number):
    """Every tensor shows the number."""

    def filled(*shape, by=1.0):
        return torch.full(shape, float(by * (number + 1)))

    return Example(
        target=filled(3, *SIDE),
        visible=filled(1, 2, 2),
        seen=filled(3, *SIDE, by=10),
        local=filled(3, *SIDE, by=100),
        mask=filled(1, 2, 2, by=3),
        caption=number + 5,
        noise=filled(4, 2, 2, by=7),
        sampling=filled(4, 2, 2, by=0.5),
        moment=0.1 * number + 0.05,
        index=number % 3,
    )


class Made:
    """Examples by their numbers, as `Examples` makes them."""

    subjects = range(3)

    def __init__(self, stage):
        self.config = EliteConfig(stage=stage, batch_size=COUNT, resolution=64)

    def __call__(self, number):
        return example(number)


@pytest.fixture
def encoded(monkeypatch):
    """What the encoders were given: they answer with the mean of each picture."""
    given = []

    def means(pictures):
        assert pictures.shape[1:] == (*SIDE, 3)
        given.append(pictures[:, 0, 0, 0].tolist())
        return pictures.mean(dim=(1, 2, 3))

    def posterior(vae, pictures):
        mean = means(pictures).view(-1, 1, 1, 1).expand(-1, 4, 2, 2)
        return LatentPosterior(mean, 2 * mean)

    def features(vision, pictures, layers):
        return means(pictures).view(1, -1, 1, 1).expand(5, -1, 5, 8)

    monkeypatch.setattr(module, "encode_posterior", posterior)
    monkeypatch.setattr(module, "layer_features", features)
    monkeypatch.setattr(module, "image_embeddings", lambda _, pictures: means(pictures)[:, None])
    monkeypatch.setattr(module, "vision_shape", lambda _: VisionShape(8, 12, 4))
    return given


def batches(stage):
    @contextmanager
    def paused(*, others_stay):
        assert others_stay
        yield

    return EliteBatches(Made(stage), toy_backbone(paused=paused), "vae", "vision", Alone())


def column(tensor):
    return tensor.flatten(1)[:, 0].tolist()


@pytest.mark.parametrize("stage", ["global", "local"])
def test_each_row_is_of_its_example(stage, encoded):
    batch = batches(stage)(2, None)  # examples 4 and 5
    assert batch.index.tolist() == [1, 2] and batch.prompt.tolist() == [9, 10]
    assert column(batch.noise) == [35.0, 42.0] and column(batch.visible) == [5.0, 6.0]
    assert column(batch.masks) == [15.0, 18.0]
    # 2 (mean + std sampling), as the toy denoiser scales
    assert column(batch.x0) == [2 * (n + 2 * n * n / 2) for n in (5, 6)]
    assert batch.features.shape == (5, COUNT, 5, 8)
    assert batch.features[0, :, 0, 0].tolist() == [50.0, 60.0]
    local = [500.0, 600.0] if stage == "local" else []
    assert batch.local[0, :, 0, 0].tolist() == local
    assert batch.t.tolist() == [4, 5]  # of 10 timesteps


def test_processes_take_their_batches_in_turns():
    def numbers(index, batch):
        processes = SimpleNamespace(index=index, count=2)
        made = EliteBatches(Made("global"), toy_backbone(), "vae", "vision", processes)
        return list(made.numbers(batch))

    assert [numbers(index, batch) for batch in (0, 1) for index in (0, 1)] == [[0], [1], [2], [3]]
    assert list(batches("global").numbers(2)) == [4, 5]


def test_the_last_timestep_is_the_last_there_is(encoded, monkeypatch):
    made = batches("global")
    late = SimpleNamespace(**vars(example(0)) | {"moment": 1 - 2**-60})
    assert late.moment == 1.0
    monkeypatch.setattr(made, "_made", lambda number: [late])
    assert made(0, None).t.tolist() == [9]


def test_to_align_pictures_are_compared_with_what_they_show(encoded):
    batch = batches("align")(0, None)
    assert batch.features[0, :, 0, 0].tolist() == [10.0, 20.0]
    assert batch.subjects[:, 0].tolist() == [100.0, 200.0] and batch.prompt.tolist() == [5, 6]
    assert encoded == [[10.0, 20.0], [100.0, 200.0]]  # no VAE


def test_in_the_global_stage_a_target_is_encoded_once_and_alone(encoded):
    made = batches("global")
    first, second = made(0, None), made(1, None)
    targets = [given for given in encoded if given[0] < 10]
    assert targets == [[1.0], [2.0], [3.0]]  # of subjects 0, 1, 2; then 0 is known
    assert second.index.tolist() == [2, 0]
    assert column(second.x0)[1] == 2 * (1 + 2 * 1 * 2.0)  # its target, with its own sampling
    assert column(first.x0)[0] == 2 * (1 + 2 * 1 * 0.5)


def test_in_the_local_stage_a_target_changes(encoded):
    made = batches("local")
    for number in (0, 1):
        made(number, None)
    assert [given for given in encoded if given[0] < 10] == [[1.0, 2.0], [3.0, 4.0]]


def test_examples_are_made_ahead_in_threads_as_without(encoded):
    made = batches("local")
    with made.working(2):
        ahead = [made(number, None) for number in range(4)]
    alone = [made(number, None) for number in range(4)]
    for one, other in zip(ahead, alone, strict=True):
        assert torch.equal(one.x0, other.x0) and torch.equal(one.prompt, other.prompt)
