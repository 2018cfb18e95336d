"""Pictures of the class: made in chunks, kept as files, and made again where one is not right."""

from dataclasses import replace

import pytest
import torch
from personalize.training import prior
from personalize.training.prior import CHUNK, SAMPLING, ClassPictures
from PIL import Image

pytestmark = pytest.mark.host

SIZE = 8
WANTED = ClassPictures("a photo of a dog", SIZE, 7, ["these weights"], SAMPLING)


@pytest.fixture
def made(monkeypatch):
    """Seeds of what was sampled; a picture shows the seed and its place in the chunk, beyond what
    a picture can show in one corner."""
    seeds = []

    def text_to_image(*models, prompt, size, count, seed, **settings):
        seeds.append(seed)
        pictures = torch.full((count, size, size, 3), 0.5)
        pictures[:, 0, 0] = 1.5
        pictures[:, 0, 1, 0] = (seed + torch.arange(count)) / 255 + 0.3 / 255
        pictures[:, 0, 1, 1] = 0.7 / 255
        return pictures

    def called(model, clip, vae, prompt, size, **settings):
        assert (model, clip, vae) == ("model", "clip", "vae")
        return text_to_image(prompt=prompt, size=size, **settings)

    monkeypatch.setattr(prior, "text_to_image", called)
    return seeds


def make(folder, count=5, wanted=WANTED, told=None):
    told = [] if told is None else told
    return wanted.make(("model", "clip", "vae"), count, folder, lambda *n: told.append(n))


def test_a_picture_is_a_function_of_its_number(made, tmp_path):
    told = []
    pictures = make(None, told=told)
    assert pictures.shape == (5, SIZE, SIZE, 3)
    assert made == [7, 7 + CHUNK]
    assert told == [(0, 5), (CHUNK, 5), (5, 5)]
    shown = (pictures * 255).round()
    assert shown[:, 0, 1, 0].tolist() == [7 + n for n in range(5)]
    assert shown[:, 0, 1, 1].unique() == 1 and pictures.max() == 1.0  # rounded, and in 0..1
    assert torch.equal(make(None, 2), pictures[:2])
    assert torch.equal(make(tmp_path), pictures)  # the files hold the same bits


def test_a_later_run_makes_only_what_is_missing(made, tmp_path):
    first = make(tmp_path, 3)
    assert made == [7]
    more = make(tmp_path, 6)
    assert made == [7, 7 + CHUNK] and torch.equal(more[:3], first)
    assert torch.equal(make(tmp_path, 6), more) and len(made) == 2


@pytest.mark.parametrize("damage", ["gone", "cut off", "another picture", "another size"])
def test_what_is_not_as_it_was_kept_is_made_again(damage, made, tmp_path):
    before = make(tmp_path)
    path = sorted(tmp_path.rglob("*.png"))[1]
    if damage == "gone":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        with Image.open(path) as image:
            text = image.info
            image = image.convert("RGB")
        if damage == "another size":
            image = image.resize((SIZE, SIZE - 1))
        image.putpixel((3, 3), (1, 2, 3))
        about = prior.PngInfo()
        about.add_text(prior.TRAINING_KEY, text[prior.TRAINING_KEY])
        image.save(path, pnginfo=about)
    made.clear()
    assert torch.equal(make(tmp_path), before)
    assert made == [7]
    made.clear()
    make(tmp_path)
    assert made == []


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a photo of a cat"},
        {"seed": 8},
        {"fingerprint": ["others"]},
        {"sampling": {**SAMPLING, "cfg": 7.0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_pictures_have_a_folder_of_their_own(change, made, tmp_path):
    make(tmp_path, 1)
    make(tmp_path, 1, replace(WANTED, **change))
    assert len(made) == 2 and len(list(tmp_path.iterdir())) == 2
