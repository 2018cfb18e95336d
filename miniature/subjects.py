"""Individuals nobody has seen, what to ask of pictures of them, and a jury that scores the answers.

    subject = thing(3)                          # or face(3); the same number is always the same one
    learn from subject.references.pictures
    scores = Jury.load().score(subject, prompt, pictures) for prompt in prompts_for(subject)

Demo, study and the tables of the methods all measure with this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .comfy_pack.vocabulary import HOST_ROWS
from .files import WEIGHTS, load_judge, load_pair
from .models.clip import Pair
from .models.judges import embed_instances, read_attributes
from .models.vocabulary import Vocabulary
from .world.canvas import SIZE
from .world.captions import STYLES
from .world.factors import FACTORS
from .world.objects import OBJECTS
from .world.render import on_blank, render
from .world.scene import Scene, random_individual, views

REFERENCES, WITNESSES = 4, 8
THING_KINDS = [kind for kind in OBJECTS if kind != "ball"]  # a ball has no pose to ask for
SLOT = "{}"


@dataclass(frozen=True, eq=False)
class Views:
    """pictures (n, 128, 128, 3) in 0..1; masks (n, 128, 128), 1 where the subject shows."""

    pictures: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def first(self, count: int) -> Views:
        return Views(self.pictures[:count], self.masks[:count])


@dataclass(frozen=True, eq=False)
class Subject:
    """A thing or a person that no training of the miniature has shown.

    class_word: what it is; described: all that a caption can say of it
    references: to learn from, the first one plain; witnesses: other views, to judge by
    blank_witnesses: the same, everything around the subject white
    """

    name: str
    class_word: str
    described: str
    references: Views
    witnesses: Tensor
    blank_witnesses: Tensor

    @property
    def is_person(self) -> bool:
        return self.class_word == "person"


@dataclass(frozen=True)
class Prompt:
    """text: `{}` stands for the subject; asked: what must be seen then, by factor."""

    text: str
    asked: dict[str, str]

    def about(self, words: str) -> str:
        return self.text.replace(SLOT, words)


THING_PROMPTS = (
    Prompt("a photo of a {} on the beach", {"background": "beach"}),
    Prompt("a photo of a {} wearing a red hat in the snow", {"background": "snow", "hat": "red"}),
    Prompt("a photo of a {} at night under the moon", {"background": "night"}),
    Prompt(
        "a photo of a {} upside down on the grass", {"background": "grass", "pose": "upside down"}
    ),
    Prompt("a photo of a {} on a purple rug", {"background": "rug"}),
    Prompt("a photo of a wet {} in the city", {"background": "city", "state": "wet"}),
    Prompt(
        "a photo of a {} beside a blue ball in the desert",
        {"background": "desert", "other": "ball", "other_colour": "blue"},
    ),
    Prompt("a photo of a {} facing left in the forest", {"background": "forest", "pose": "left"}),
    Prompt("a photo of a shiny {} on a wooden table", {"background": "table", "state": "shiny"}),
    Prompt("a photo of a {} at sunset", {"background": "sunset"}),
    Prompt("a photo of a {} wearing a blue hat in the city", {"background": "city", "hat": "blue"}),
    Prompt("a photo of a {} lying in the snow", {"background": "snow", "pose": "lying"}),
    Prompt("a photo of a wet {} on the beach", {"background": "beach", "state": "wet"}),
    Prompt(
        "a photo of a {} beside a red box on the grass",
        {"background": "grass", "other": "box", "other_colour": "red"},
    ),
    Prompt("a photo of a {} facing left in the desert", {"background": "desert", "pose": "left"}),
)
FACE_PROMPTS = (
    Prompt("a photo of a {} on the beach", {"background": "beach"}),
    Prompt(
        "a photo of a {} smiling in the snow", {"background": "snow", "expression": "smiling"}
    ),
    Prompt(
        "a photo of a {} wearing a red hat on the grass", {"background": "grass", "hat": "red"}
    ),
    Prompt("a photo of a {} sad in the city", {"background": "city", "expression": "sad"}),
    Prompt("a photo of a {} in a blue shirt in the desert", {"background": "desert",
           "colour": "blue"}),
    Prompt("a photo of a {} angry in the forest", {"background": "forest", "expression": "angry"}),
    Prompt("a photo of a {} wearing glasses at sunset", {"background": "sunset", "glasses": "yes"}),
    Prompt("a photo of a {} at night under the moon", {"background": "night"}),
    Prompt("a photo of a {} surprised on a purple rug", {"background": "rug",
           "expression": "surprised"}),
    Prompt("a photo of a {} facing left on a wooden table", {"background": "table",
           "pose": "left"}),
    Prompt("a photo of a {} wearing a green hat in the snow", {"background": "snow",
           "hat": "green"}),
    Prompt("a photo of a {} smiling in the city", {"background": "city",
           "expression": "smiling"}),
    Prompt("a photo of a {} in a yellow shirt on the beach", {"background": "beach",
           "colour": "yellow"}),
    Prompt("a photo of a {} facing right in the forest", {"background": "forest",
           "pose": "right"}),
    Prompt("a photo of a {} sad at sunset", {"background": "sunset", "expression": "sad"}),
)  # fmt: skip


def prompts_for(subject: Subject, count: int = 10) -> tuple[Prompt, ...]:
    """The first `count` of the fifteen that suit it: the first five differ most."""
    return (FACE_PROMPTS if subject.is_person else THING_PROMPTS)[:count]


def thing(number: int) -> Subject:
    """A particular object; nine numbers in a row are nine classes."""
    return _subject(f"thing {number}", THING_KINDS[number % len(THING_KINDS)])


def face(number: int) -> Subject:
    """The face of a person that the miniature has no name for."""
    return _subject(f"face {number}", "person")


def individual(subject: Subject) -> Scene:
    """What the first of its references shows."""
    return random_individual(_chance(subject.name), subject.class_word)


def _chance(name: str) -> np.random.Generator:
    kind, number = name.split()
    return np.random.default_rng([{"thing": 61, "face": 62}[kind], int(number)])


def _subject(name: str, kind: str) -> Subject:
    rng = _chance(name)
    shown = random_individual(rng, kind)
    others = [_bare(scene) for scene in views(rng, shown, REFERENCES - 1 + WITNESSES)]
    references = [shown, *others[: REFERENCES - 1]]
    drawn = [render(scene) for scene in others[REFERENCES - 1 :]]
    return Subject(
        name=name,
        class_word=kind,
        described=_described(shown),
        references=_views([render(scene) for scene in references]),
        witnesses=_pictures([rgb for rgb, _ in drawn]),
        blank_witnesses=_pictures([on_blank(rgb, mask) for rgb, mask in drawn]),
    )


def _bare(scene: Scene) -> Scene:
    """In its place and pose, without what is not part of it."""
    return replace(scene, hat=None, state="dry", other=None, glasses=False, size="medium")


def _described(shown: Scene) -> str:
    if shown.face is None:
        return f"{shown.pattern} {shown.colour} {shown.kind}"
    of_face = shown.face
    hair = STYLES[of_face.style].format(of_face.hair)
    beard = "" if of_face.beard == "none" else f" with a {of_face.beard}"
    return f"person {'' if of_face.style == 'bald' else 'with '}{hair}{beard}"


def _views(drawn: Sequence[tuple[np.ndarray, np.ndarray]]) -> Views:
    masks = np.stack([mask for _, mask in drawn])
    return Views(_pictures([rgb for rgb, _ in drawn]), torch.from_numpy(masks).float() / 255)


def _pictures(drawn: Sequence[np.ndarray]) -> Tensor:
    """Arrays (128, 128, 3), uint8 -> (n, 128, 128, 3) in 0..1."""
    return torch.from_numpy(np.stack(drawn)).float() / 255


@dataclass(frozen=True)
class Scores:
    """How one picture, or the mean of many, answers a prompt about a subject.

    likeness: cosine of the instance judge's embeddings of picture and witnesses, -1 to 1
    likeness_fg: the same with witnesses on a blank ground; clip_i_fg: by the miniature's CLIP
    edits: share of what was asked that the attribute judge sees; kind: it sees the right class
    clip_t: cosine of prompt, with the class word, and picture, by the miniature's CLIP
    """

    likeness: float
    likeness_fg: float
    clip_i_fg: float
    edits: float
    kind: float
    clip_t: float


def mean_scores(scores: Sequence[Scores]) -> Scores:
    if not scores:
        raise ValueError("There are no scores to average.")
    return Scores(
        *(sum(column) / len(scores) for column in zip(*map(astuple, scores), strict=True))
    )


@dataclass(frozen=True)
class Known:
    """Unit embeddings of the witnesses: by the instance judge, also blank; by CLIP, blank."""

    whole: Tensor
    blank: Tensor
    blank_clip: Tensor


@dataclass(frozen=True)
class Jury:
    """The judges, and the miniature's own pair for CLIP scores; remembers the subjects it met."""

    instances: nn.Module
    attributes: nn.Module
    pair: Pair
    _known: dict[str, Known] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> Jury:
        """From the committed files; raises BadWeights with a sentence."""
        return cls(
            load_judge("instance", folder), load_judge("attribute", folder), load_pair(folder)
        )

    @torch.inference_mode()
    def score(self, subject: Subject, prompt: Prompt, pictures: Tensor) -> list[Scores]:
        """One each picture of (n, height, width, 3) in 0..1; other sizes than 128 are resized."""
        shown, known = _as_network_input(pictures), self._meet(subject)
        mine, clip = embed_instances(self.instances, shown), self.pair.embed_picture(shown)
        read = read_attributes(self.attributes, shown)
        columns = (
            (mine @ known.whole.T).mean(1),
            (mine @ known.blank.T).mean(1),
            (clip @ known.blank_clip.T).mean(1),
            _share(read, prompt.asked),
            _share(read, {"kind": subject.class_word}),
            clip @ self._embed_text(prompt.about(subject.class_word)),
        )
        return [Scores(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]

    @torch.inference_mode()
    def likeness(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Mean cosine of each picture to the others, (n,); both (n, height, width, 3)."""
        mine, theirs = (
            embed_instances(self.instances, _as_network_input(p)) for p in (pictures, others)
        )
        return (mine @ theirs.T).mean(1)

    def _meet(self, subject: Subject) -> Known:
        if subject.name not in self._known:
            whole, blank = map(_as_network_input, (subject.witnesses, subject.blank_witnesses))
            self._known[subject.name] = Known(
                embed_instances(self.instances, whole),
                embed_instances(self.instances, blank),
                self.pair.embed_picture(blank),
            )
        return self._known[subject.name]

    def _embed_text(self, text: str) -> Tensor:
        rows, end = Vocabulary(list(range(HOST_ROWS))).encode(text, 77)
        return self.pair.embed_text(torch.tensor([rows]), torch.tensor([end]))[0]


def _share(read: Tensor, asked: dict[str, str]) -> Tensor:
    """Share of the asked factors that each picture shows, (n,)."""
    names = list(FACTORS)
    hits = [read[:, names.index(f)] == FACTORS[f].index(option) for f, option in asked.items()]
    return torch.stack(hits).float().mean(0)


def _as_network_input(pictures: Tensor) -> Tensor:
    x = pictures.movedim(-1, 1).float()  # BHWC -> BCHW
    if x.shape[-2:] != (SIZE, SIZE):
        x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True).clamp(0, 1)
    return x.contiguous()
