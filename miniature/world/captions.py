"""Scenes in words. A caption may leave factors out; it says which ones it told."""

from dataclasses import dataclass

import numpy as np

from .scene import Scene

RNG = np.random.Generator

PLACES: dict[str, list[str]] = {
    "beach": ["on the beach", "on a sandy beach", "by the sea"],
    "snow": ["in the snow", "on a snowy day"],
    "rug": ["on a purple rug", "on a rug"],
    "table": ["on a wooden table", "on a table"],
    "grass": ["on the grass", "in a meadow"],
    "forest": ["in the forest", "in the woods"],
    "night": ["at night under the moon", "at night"],
    "desert": ["in the desert", "in the desert with a cactus"],
    "city": ["in the city", "on a city street"],
    "sunset": ["at sunset", "at sunset by the water"],
    "studio": ["on a plain background", "on a blank background"],
}
# "close-up", "small" and "large" are kept for pictures where they are true.
TEMPLATES = [
    "a photo of a {}",
    "a photo of a {}",
    "a photo of a {}",
    "a photo of a {}",
    "a {}",
    "a {}",
    "{}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the weird {}",
    "a photo of a cool {}",
    "photo of a {}",
    "a drawing of a {}",
    "a picture of a {}",
]
CLOSE = [
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a close up of a {}",
    "a zoomed in photo of a {}",
    "a photo of the large {}",
    "a photo of a large {}",
]
FAR = [
    "a photo of a far away {}",
    "a photo of a very small {}",
    "a photo of the small {}",
    "a photo of a small {}",
    "a far away {}",
]
POSES = {
    "right": "facing right",
    "left": "facing left",
    "lying": "lying on its side",
    "upside down": "upside down",
}
FACE_POSES = {"front": "seen from the front", "left": "facing left", "right": "facing right"}
EXPRESSIONS = {
    "neutral": ["calm"],
    "smiling": ["smiling", "happy"],
    "sad": ["sad"],
    "angry": ["angry"],
    "surprised": ["surprised"],
}
STYLES = {
    "short": "short {} hair",
    "long": "long {} hair",
    "bob": "bobbed {} hair",
    "curly": "curly {} hair",
    "spiky": "spiky {} hair",
    "bun": "{} hair in a bun",
    "bald": "bald",
}


@dataclass(frozen=True)
class Caption:
    text: str
    told: frozenset[str]


class Writer:
    """Collects the words of one caption and the factors they tell."""

    def __init__(self, rng: RNG, always: bool) -> None:
        self.rng, self.always, self.told = rng, always, set()

    def tell(self, chance: float, *factors: str) -> bool:
        if self.always or self.rng.random() < chance:
            self.told.update(factors)
            return True
        return False

    def pick(self, options: list[str], plain: float = 0.7) -> str:
        """Usually the first."""
        if len(options) == 1 or self.rng.random() < plain:
            return options[0]
        return options[1 + self.rng.integers(len(options) - 1)]

    def template(self, size: str) -> str:
        if size != "medium" and self.tell(0.9, "size"):
            options = CLOSE if size == "close" else FAR
        else:
            options = TEMPLATES
        return options[self.rng.integers(len(options))]


def caption(scene: Scene, rng: RNG, always: bool = False) -> Caption:
    """A caption of the scene. always: tell every factor (but how it is worded still varies)."""
    w = Writer(rng, always)
    w.told.add("kind")
    text = person_text(w, scene) if scene.kind == "person" else object_text(w, scene)
    return Caption(text.strip(), frozenset(w.told))


def object_text(w: Writer, scene: Scene) -> str:
    if not w.always and w.rng.random() < 0.04:
        return w.template("medium").format(scene.kind)
    words = []
    if scene.state != "dry" and w.tell(0.95, "state"):
        words.append(scene.state)
    if w.tell(0.12 if scene.pattern == "plain" else 0.9, "pattern"):
        words.append(scene.pattern)
    if w.tell(0.92, "colour"):
        words.append(scene.colour)
    noun = " ".join([*words, scene.kind])
    if not w.always and w.rng.random() < 0.04:
        return detex_text(w, scene, noun)
    after = []
    told = 0.4 if scene.pose in ("left", "right") else 0.92
    if scene.kind != "ball" and w.tell(told, "pose"):
        after.append(POSES[scene.pose])
    if scene.hat and w.tell(0.95, "hat"):
        after.append(f"wearing a {scene.hat} hat")
    if scene.other and w.tell(0.95, "other", "other_colour"):
        after.append(f"{w.pick(['beside', 'next to', 'with'])} a {scene.other[1]} {scene.other[0]}")
    return arrange(w, scene, w.template(scene.size).format(noun), after)


def detex_text(w: Writer, scene: Scene, noun: str) -> str:
    """The wording of DETEX: photo of a red mug with upside down view in beach background."""
    text = f"photo of a {noun}"
    if scene.kind != "ball" and w.tell(0.8, "pose"):
        text += f" with {POSES[scene.pose]} {w.pick(['view', 'pose'], 0.5)}"
    if w.tell(0.8, "background"):
        text += f" in {scene.background} background"
    return text


def arrange(w: Writer, scene: Scene, text: str, after: list[str]) -> str:
    """The rest of the sentence: the place comes last, or now and then first."""
    joint = w.pick([" ", ", "])
    if not w.tell(0.5 if scene.background == "studio" else 0.88, "background"):
        return joint.join([text, *after])
    where = w.pick(PLACES[scene.background])
    if w.rng.random() < 0.06:
        return f"{where}, {joint.join([text, *after])}"
    return joint.join([text, *after, where])


def person_text(w: Writer, scene: Scene) -> str:
    """a photo of Ada Byron smiling, a photo of a face of a sad person in a red shirt, ..."""
    mood = w.tell(0.15 if scene.expression == "neutral" else 0.9, "expression")
    expression = w.pick(EXPRESSIONS[scene.expression]) if mood else ""
    before, after = ("", [expression]) if w.rng.random() < 0.5 else (expression + " ", [])
    if scene.name:
        w.told.add("face")
        text = named_text(w, scene, before)
    else:
        text = stranger_text(w, before)
    after = [a for a in after if a]
    face = scene.face
    if face and w.tell(0.10 if scene.name else 0.5, "hair", "style"):
        style = STYLES[face.style].format(face.hair)
        after.append(style if face.style == "bald" else f"with {style}")
    if face and face.beard != "none" and w.tell(0.10 if scene.name else 0.5, "beard"):
        after.append(f"with a {face.beard}")
    if w.tell(0.45, "colour"):
        after.append(f"in a {scene.colour} shirt")
    if w.tell(0.15 if scene.pose == "front" else 0.75, "pose"):
        after.append(FACE_POSES[scene.pose])
    if scene.hat and w.tell(0.95, "hat"):
        after.append(f"wearing a {scene.hat} hat")
    if scene.glasses and w.tell(0.95, "glasses"):
        after.append("wearing glasses")
    return arrange(w, scene, text, after)


def named_text(w: Writer, scene: Scene, before: str) -> str:
    name = scene.name
    if w.rng.random() < 0.45:
        return w.template("medium").format(f"face of {before}{name} person")
    forms = ["a photo of {}", "{}", "a portrait of {}", "a drawing of {}", "the face of {}"]
    return w.pick(forms, 0.5).format(f"{before}{name}")


def stranger_text(w: Writer, before: str) -> str:
    forms = [
        f"{before}person",
        f"face of a {before}person",
        f"{before}face",
        f"face of {before}person",
    ]
    return w.template("medium").format(w.pick(forms, 0.55))
