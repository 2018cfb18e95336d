"""The miniature's pair in transformers' layout scores as the pair itself does."""

import pytest
import torch
from personalize.evaluation.evaluate import evaluate, make_views
from personalize.evaluation.features import ClipExtractor, load_clip
from personalize.evaluation.pictures import read_pictures, with_masks
from personalize.miniature.clip_folder import host_vocabulary, write_clip
from personalize.miniature.comfy_pack.vocabulary import HOST_ROWS
from personalize.miniature.files import VISION, WEIGHTS
from personalize.miniature.models.vocabulary import Vocabulary
from personalize.miniature.subjects import Jury, face, prompts_for, thing
from torch.nn import functional as F

EXACT = {"rtol": 0, "atol": 1e-5}
TEXTS = [
    "a photo of a red mug on the beach",
    "a photo of a face of Emma Stone smiling in the snow",
    "a marvellous zeppelin",  # words without a row in the weights
    *(prompt.about("teapot") for prompt in prompts_for(thing(0))),
]

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(
        not (WEIGHTS / VISION).exists(), reason="no weights: see miniature/MODEL_CARD.md"
    ),
]


@pytest.fixture(scope="module")
def jury() -> Jury:
    return Jury.load()


@pytest.fixture(scope="module")
def clip(jury, tmp_path_factory) -> ClipExtractor:
    return load_clip(write_clip(tmp_path_factory.mktemp("clip_metrics") / "mini", pair=jury.pair))


def test_texts_and_pictures_get_the_pairs_own_embeddings(clip, jury) -> None:
    encode = Vocabulary(list(range(HOST_ROWS))).encode
    rows, ends = map(torch.tensor, zip(*(encode(text, 77) for text in TEXTS), strict=True))
    told = F.normalize(clip.embed_texts(TEXTS), dim=-1)
    torch.testing.assert_close(told, jury.pair.embed_text(rows, ends), **EXACT)
    pictures = torch.cat([make(2).references.pictures for make in (thing, face)])
    images = [picture.image for picture in with_masks(read_pictures([pictures], "own"), None)]
    seen = F.normalize(clip.embed_pictures(images), dim=-1)
    own = jury.pair.embed_picture(pictures.movedim(-1, 1).contiguous())
    torch.testing.assert_close(seen, own, **EXACT)


@pytest.mark.parametrize("make", [thing, face])
def test_the_scores_are_the_jurys(make, clip, jury) -> None:
    subject, prompt = make(1), prompts_for(make(1))[0]
    drawn, witnesses = (
        with_masks(read_pictures([pictures], "given"), None)
        for pictures in (subject.references.pictures, subject.blank_witnesses)
    )
    asked = [prompt.about(subject.class_word)] * len(drawn)
    ours = evaluate(make_views(drawn, witnesses), asked, clip=clip).per_picture
    theirs = jury.score(subject, prompt, subject.references.pictures)
    for name, of_jury in (
        ("CLIP-T", [score.clip_t for score in theirs]),
        ("CLIP-I", [score.clip_i_fg for score in theirs]),
    ):
        torch.testing.assert_close(torch.tensor(ours[name]), torch.tensor(of_jury), **EXACT)


def test_the_vocabulary_is_that_of_the_comfyui_around_the_folder(tmp_path) -> None:
    folder = tmp_path / "ComfyUI" / "models" / "clip_metrics" / "miniature"
    assert host_vocabulary(folder).is_dir()
    own = tmp_path / "ComfyUI" / "comfy" / "sd1_tokenizer"
    own.mkdir(parents=True)
    assert host_vocabulary(folder) == own.resolve()
