"""All scores of some generated pictures at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image
from torch import Tensor

from . import scores
from .pictures import BLACK, WHITE, Picture

CLIP_T, CLIP_I, CLIP_I_FG, CLIP_I_MASKED = "CLIP-T", "CLIP-I", "CLIP-I(FG)", "CLIP-I(masked)"
DINO_I, DINO_I_FG = "DINO-I", "DINO-I(FG)"
OVERALL, IDENTITY = "overall", "identity"

MEASURES = {
    CLIP_T: "follows the prompt: CLIP of picture and prompt",
    CLIP_I: "like the references: CLIP of the pictures",
    CLIP_I_FG: "CLIP-I, references on a blank ground (DETEX)",
    CLIP_I_MASKED: "CLIP-I, both cut out (CatVersion)",
    OVERALL: "geometric mean of CLIP-T and CLIP-I(masked)",
    DINO_I: "like the references: DINO of the pictures",
    DINO_I_FG: "DINO-I, references on a blank ground (DETEX)",
    IDENTITY: "same individual: embedding of your choice",
}
"""Every score and what it tells, in the order of reports. All: higher is better, 1 at most."""


GENERATED, REFERENCES = "generated", "references"
ON_BLANK = "references on a blank ground"
CUT_GENERATED, CUT_REFERENCES = "generated, cut out", "references, cut out"

CLIP_VIEWS = (GENERATED, REFERENCES, ON_BLANK, CUT_GENERATED, CUT_REFERENCES)
DINO_VIEWS = (GENERATED, REFERENCES, ON_BLANK)
IDENTITY_VIEWS = (GENERATED, REFERENCES)

_PAIRS = {
    CLIP_I: (GENERATED, REFERENCES),
    CLIP_I_FG: (GENERATED, ON_BLANK),
    CLIP_I_MASKED: (CUT_GENERATED, CUT_REFERENCES),
    DINO_I: (GENERATED, REFERENCES),
    DINO_I_FG: (GENERATED, ON_BLANK),
    IDENTITY: (GENERATED, REFERENCES),
}

PictureViews = Mapping[str, Sequence[Image.Image]]


class PictureEmbedder(Protocol):
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor: ...


class ClipEmbedder(PictureEmbedder, Protocol):
    def embed_texts(self, texts: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class Evaluation:
    """Scores of each picture and their means.

    prompts: what each picture was compared with; per_picture, means: by names of MEASURES
    """

    prompts: tuple[str, ...]
    per_picture: Mapping[str, tuple[float, ...]]
    means: Mapping[str, float]


def make_views(generated: Sequence[Picture], references: Sequence[Picture]) -> PictureViews:
    """The pictures in all ways that embedders look at them, as far as there are masks."""
    views = {GENERATED: [p.image for p in generated], REFERENCES: [p.image for p in references]}
    if _masked(references):
        views[ON_BLANK] = [p.subject_on(WHITE) for p in references]
    if _masked(references) and _masked(generated):
        views[CUT_GENERATED] = [p.subject_on(BLACK) for p in generated]
        views[CUT_REFERENCES] = [p.subject_on(BLACK) for p in references]
    return views


def evaluate(
    views: PictureViews,
    prompts: Sequence[str],
    *,
    clip: ClipEmbedder,
    dino: PictureEmbedder | None = None,
    identity: PictureEmbedder | None = None,
) -> Evaluation:
    """Every score that can be had: those of DINO and identity need their embedders, (FG) needs
    masks of the references, masked and overall need masks of all pictures.

    views: from `make_views`
    prompts: in plain words (`plain_prompt`), one for each generated picture
    """
    seen = _embed(clip, views, CLIP_VIEWS)
    found = {CLIP_T: scores.text_alignment(seen[GENERATED], clip.embed_texts(prompts))}
    found |= _alignments(seen, (CLIP_I, CLIP_I_FG, CLIP_I_MASKED))
    if dino is not None:
        found |= _alignments(_embed(dino, views, DINO_VIEWS), (DINO_I, DINO_I_FG))
    if identity is not None:
        found |= _alignments(_embed(identity, views, IDENTITY_VIEWS), (IDENTITY,))
    means = {name: values.mean() for name, values in found.items()}
    for part in (found, means):
        if CLIP_I_MASKED in part:
            part[OVERALL] = scores.overall(part[CLIP_T], part[CLIP_I_MASKED])
    return Evaluation(
        prompts=tuple(prompts),
        per_picture={name: tuple(found[name].tolist()) for name in MEASURES if name in found},
        means={name: means[name].item() for name in MEASURES if name in means},
    )


def count_pictures(views: PictureViews, names: Sequence[str]) -> int:
    """How many pictures an embedder looks at, for a progress bar."""
    return sum(len(views.get(name, ())) for name in names)


def _embed(
    embedder: PictureEmbedder, views: PictureViews, names: Sequence[str]
) -> dict[str, Tensor]:
    return {name: embedder.embed_pictures(views[name]) for name in names if name in views}


def _alignments(seen: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    pairs = {name: _PAIRS[name] for name in names}
    return {
        name: scores.picture_alignment(seen[made], seen[real])
        for name, (made, real) in pairs.items()
        if made in seen and real in seen
    }


def _masked(pictures: Sequence[Picture]) -> bool:
    return all(p.mask is not None for p in pictures)
