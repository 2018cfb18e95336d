"""A scene: every factor of a picture, and how scenes are drawn from chance."""

from dataclasses import dataclass, replace

import numpy as np

from .backgrounds import BACKGROUNDS, VARIANTS
from .individuals import Face, Thing, named_face, random_face, random_thing
from .objects import OBJECTS, PATTERNS
from .palette import COLOUR_NAMES
from .people import EXPRESSIONS

THING_POSES = ["right", "left", "lying", "upside down"]
FACE_POSES = ["front", "left", "right"]
SIZES = ["medium", "close", "far"]
STATES = ["dry", "wet", "shiny"]
OTHERS = ["ball", "box", "flower"]
HAT_COLOURS = ["red", "blue", "green", "yellow", "black", "white"]
CLASSES = [*OBJECTS, "person"]


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `kind` is a class of CLASSES; a person's `colour` is the shirt's."""

    kind: str
    colour: str
    background: str
    pattern: str = "plain"
    pose: str = "right"
    size: str = "medium"
    state: str = "dry"
    hat: str | None = None
    glasses: bool = False
    expression: str = "neutral"
    other: tuple[str, str] | None = None
    thing: Thing | None = None
    face: Face | None = None
    name: str | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    tilt: float = 0.0
    variant: int = 0
    brightness: float = 1.0
    other_side: int = 1


def held_out(scene: Scene) -> bool:
    """One combination in sixteen, of things and of people, is never trained on."""
    if scene.kind == "person":
        key = (
            COLOUR_NAMES.index(scene.colour) * 7
            + BACKGROUNDS.index(scene.background) * 3
            + EXPRESSIONS.index(scene.expression) * 5
        )
    else:
        key = (
            CLASSES.index(scene.kind) * 5
            + COLOUR_NAMES.index(scene.colour) * 3
            + PATTERNS.index(scene.pattern) * 7
            + BACKGROUNDS.index(scene.background)
        )
    return key % 16 == 0


def place(rng: np.random.Generator, scene: Scene) -> Scene:
    """The same scene with fresh accidents: position, size, tilt, variant of the background."""
    return replace(
        scene,
        shift=tuple(float(v) for v in rng.uniform(-1, 1, 2)),
        scale=float(rng.uniform(0.93, 1.07)),
        tilt=float(rng.uniform(-0.10, 0.10)),
        variant=int(rng.integers(VARIANTS)),
        brightness=float(rng.uniform(0.94, 1.04)),
        other_side=int(rng.integers(2)) * 2 - 1,
    )


def pick(rng: np.random.Generator, options: list[str]) -> str:
    return options[rng.integers(len(options))]


def random_background(rng: np.random.Generator) -> str:
    return "studio" if rng.random() < 0.06 else BACKGROUNDS[rng.integers(len(BACKGROUNDS) - 1)]


def random_object(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """An object in a place; most scenes are simple, some have extras."""
    scene = Scene(
        kind=kind or pick(rng, OBJECTS),
        colour=pick(rng, COLOUR_NAMES),
        background=random_background(rng),
        pattern="plain" if rng.random() < 0.36 else PATTERNS[1 + rng.integers(4)],
        pose=THING_POSES[rng.choice(4, p=[0.37, 0.33, 0.15, 0.15])],
        size=SIZES[rng.choice(3, p=[0.84, 0.08, 0.08])],
        thing=random_thing(rng),
    )
    extra = rng.random()
    if extra < 0.14:
        scene = replace(scene, hat=pick(rng, HAT_COLOURS))
    elif extra < 0.24:
        scene = replace(scene, state=pick(rng, STATES[1:]))
    elif extra < 0.36:
        scene = replace(scene, other=(pick(rng, OTHERS), pick(rng, COLOUR_NAMES)))
    if scene.size == "close" and scene.other:
        scene = replace(scene, size="medium")
    return place(rng, scene)


def random_person(rng: np.random.Generator, name: str | None = None) -> Scene:
    """A face in a place, of the person of that name or of nobody in particular."""
    scene = Scene(
        kind="person",
        colour=pick(rng, COLOUR_NAMES),
        background=random_background(rng),
        pose=FACE_POSES[rng.choice(3, p=[0.6, 0.2, 0.2])],
        expression=EXPRESSIONS[rng.choice(5, p=[0.36, 0.19, 0.16, 0.15, 0.14])],
        face=named_face(name) if name else random_face(rng),
        name=name,
    )
    extra = rng.random()
    if extra < 0.13:
        scene = replace(scene, hat=pick(rng, HAT_COLOURS))
    elif extra < 0.25:
        scene = replace(scene, glasses=True)
    return place(rng, scene)


def random_scene(rng: np.random.Generator, names: list[str], training: bool = True) -> Scene:
    """A scene of the training world, or, with training=False, one of the held-out combinations."""
    while True:
        if rng.random() < 0.30:
            name = pick(rng, names) if names and rng.random() < 0.6 else None
            scene = random_person(rng, name)
        else:
            scene = random_object(rng)
        if held_out(scene) != training:
            return scene


def views(rng: np.random.Generator, individual: Scene, count: int) -> list[Scene]:
    """The same thing or person in fresh places, poses, expressions and outfits.

    What stays is the identity: class, colour, pattern and `thing`, or `face`.
    """
    result = []
    for _ in range(count):
        if individual.kind == "person":
            fresh = random_person(rng)
            result.append(replace(fresh, face=individual.face, name=individual.name))
        else:
            fresh = random_object(rng, individual.kind)
            kept = {
                "colour": individual.colour,
                "pattern": individual.pattern,
                "thing": individual.thing,
            }
            result.append(replace(fresh, **kept))
    return result


def random_individual(
    rng: np.random.Generator, kind: str | None = None, like: Scene | None = None
) -> Scene:
    """A particular thing or person, plainly seen; `like`: of the same class, colour and pattern."""
    if (kind or (like and like.kind)) == "person":
        scene = random_person(rng)
        return replace(scene, hat=None, glasses=False, expression="neutral", pose="front")
    scene = random_object(rng, like.kind if like else kind)
    plain = {"hat": None, "state": "dry", "other": None, "pose": "right", "size": "medium"}
    scene = replace(scene, **plain)
    return replace(scene, colour=like.colour, pattern=like.pattern) if like else scene
