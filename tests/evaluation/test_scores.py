"""Pure scores, and all of them against plain transformers."""

import pytest
import torch
import transformers
from personalize.evaluation import scores
from personalize.evaluation.evaluate import (
    CLIP_VIEWS,
    MEASURES,
    count_pictures,
    evaluate,
    make_views,
)
from personalize.evaluation.features import load_clip, load_image_model
from personalize.evaluation.pictures import BLACK, WHITE, Picture
from personalize.tests.score_models import write_clip, write_dino
from torch.nn.functional import cosine_similarity

SIZES = ((40, 40), (90, 51), (33, 70))
PROMPTS = ["a dog on the beach", "a red dog", "a very long prompt " * 30]
CLOSE = {"rel": 0, "abs": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("clip_metrics")
    return write_clip(root / "clip"), write_dino(root / "dino")


def pictures(sizes, seed):
    """Smooth random pictures with an ellipse as mask."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for height, width in sizes:
        coarse = torch.rand(1, 3, 5, 5, generator=generator)
        pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        mask = ((x**2 + y**2) < 0.5).float()
        pixels = (pixels.clamp(0, 1) * 255).byte().movedim(0, -1)
        made.append(Picture(pixels.numpy(), mask.numpy()))
    return made


@pytest.fixture(scope="module")
def generated():
    return pictures(SIZES, 0)


@pytest.fixture(scope="module")
def references():
    return pictures(SIZES[:2], 1)


class Plain:
    """The same by transformers alone, a picture or prompt at a time."""

    def __init__(self, clip, dino):
        self.clip = transformers.CLIPModel.from_pretrained(clip).eval()
        self.clip_processor = transformers.CLIPProcessor.from_pretrained(clip)
        self.dino = transformers.ViTModel.from_pretrained(dino, add_pooling_layer=False).eval()
        self.dino_processor = transformers.AutoImageProcessor.from_pretrained(dino)

    @torch.no_grad()
    def clip_t(self, image, prompt):
        inputs = self.clip_processor(
            text=[prompt], images=image, return_tensors="pt", truncation=True, max_length=77
        )
        output = self.clip(**inputs)
        return (output.logits_per_image / self.clip.logit_scale.exp()).item()

    @torch.no_grad()
    def clip_features(self, image):
        pixels = self.clip_processor(images=image, return_tensors="pt")["pixel_values"]
        output = self.clip(pixel_values=pixels, input_ids=torch.tensor([[512, 513]]))
        return output.image_embeds

    @torch.no_grad()
    def dino_features(self, image):
        inputs = self.dino_processor(images=image, return_tensors="pt")
        return self.dino(**inputs).last_hidden_state[:, 0]


def pairwise(features, made, real):
    """For each of made, the mean over real of the cosine."""
    return [
        sum(cosine_similarity(features(m), features(r)).item() for r in real) / len(real)
        for m in made
    ]


def test_every_score_equals_plain_transformers(folders, generated, references):
    clip, dino = load_clip(folders[0]), load_image_model(folders[1])
    found = evaluate(
        make_views(generated, references), PROMPTS, clip=clip, dino=dino, identity=dino
    )
    plain = Plain(*folders)
    made, real = [p.image for p in generated], [p.image for p in references]
    blank = [p.subject_on(WHITE) for p in references]
    cut = [[p.subject_on(BLACK) for p in group] for group in (generated, references)]
    expected = {
        "CLIP-T": [plain.clip_t(m, t) for m, t in zip(made, PROMPTS, strict=True)],
        "CLIP-I": pairwise(plain.clip_features, made, real),
        "CLIP-I(FG)": pairwise(plain.clip_features, made, blank),
        "CLIP-I(masked)": pairwise(plain.clip_features, *cut),
        "DINO-I": pairwise(plain.dino_features, made, real),
        "DINO-I(FG)": pairwise(plain.dino_features, made, blank),
        "identity": pairwise(plain.dino_features, made, real),
    }
    assert set(found.per_picture) == set(found.means) == {*expected, "overall"} == set(MEASURES)
    for name, values in expected.items():
        assert found.per_picture[name] == pytest.approx(values, **CLOSE), name
        assert found.means[name] == pytest.approx(sum(values) / len(values), **CLOSE), name
    assert len({round(v, 3) for v in found.per_picture["CLIP-I"]}) == len(made)  # no constant


def test_a_picture_of_itself_is_alike(folders, generated):
    clip = load_clip(folders[0])
    one = generated[:1]
    found = evaluate(make_views(one, one), PROMPTS[:1], clip=clip)
    assert found.means["CLIP-I"] == pytest.approx(1.0, **CLOSE)
    assert found.means["CLIP-I(masked)"] == pytest.approx(1.0, **CLOSE)


def test_scores_need_their_masks(folders, generated, references):
    clip = load_clip(folders[0])
    bare = [[Picture(p.pixels) for p in group] for group in (generated, references)]
    without = evaluate(make_views(*bare), PROMPTS, clip=clip)
    assert list(without.means) == ["CLIP-T", "CLIP-I"]
    foreground = evaluate(make_views(bare[0], references), PROMPTS, clip=clip)
    assert list(foreground.means) == ["CLIP-T", "CLIP-I", "CLIP-I(FG)"]
    assert foreground.per_picture["CLIP-I"] == without.per_picture["CLIP-I"]
    only_generated = evaluate(make_views(generated, bare[1]), PROMPTS, clip=clip)
    assert list(only_generated.means) == ["CLIP-T", "CLIP-I"]


def test_what_is_outside_the_masks_does_not_matter(folders, generated, references):
    import numpy as np

    clip = load_clip(folders[0])

    def elsewhere(picture):
        inside = picture.mask[..., None] > 0
        return Picture(np.where(inside, picture.pixels, 77).astype(np.uint8), picture.mask)

    before = evaluate(make_views(generated, references), PROMPTS, clip=clip).means
    other = [elsewhere(p) for p in references]
    after = evaluate(make_views(generated, other), PROMPTS, clip=clip).means
    assert after["CLIP-I(FG)"] == before["CLIP-I(FG)"]
    assert after["CLIP-I(masked)"] == before["CLIP-I(masked)"]
    assert after["CLIP-I"] != before["CLIP-I"]


@pytest.mark.parametrize(
    "text, image, printed", [(0.2514, 0.8048, 0.4498), (0.2213, 0.7831, 0.4163)]
)
def test_overall_is_that_of_the_papers_tables(text, image, printed):
    """CatVersion's table: both rows are the geometric mean of their means."""
    value = scores.overall(torch.tensor(text), torch.tensor(image)).item()
    assert value == pytest.approx(printed, abs=5e-5)


def test_overall_of_a_negative_score_is_zero():
    assert scores.overall(torch.tensor([-0.1]), torch.tensor([0.5])).tolist() == [0.0]


def test_alignment_does_not_depend_on_the_length_of_features():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 6, generator=generator) for n in (3, 4))
    expected = torch.stack([cosine_similarity(row[None], b).mean() for row in a])
    torch.testing.assert_close(scores.picture_alignment(3 * a, 0.1 * b), expected)
    torch.testing.assert_close(scores.text_alignment(a, 5 * a[:1])[0], torch.tensor(1.0))


def test_the_count_for_the_progress_bar(generated, references):
    views = make_views(generated, references)
    assert count_pictures(views, CLIP_VIEWS) == 3 + 2 + 2 + 3 + 2
