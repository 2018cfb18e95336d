"""What makes a particular thing or person itself, in whatever pose or place it is seen."""

import hashlib
from dataclasses import dataclass

import numpy as np

from .palette import CHARCOAL, COLOURS, CREAM, EYES, HAIR_NAMES, SKINS, TRIMS, contrast, tone

EMBLEMS = ["heart", "star", "disc", "diamond", "cross"]
HAIR_STYLES = ["short", "long", "bob", "curly", "spiky", "bun", "bald"]
BEARDS = ["none", "moustache", "beard"]


@dataclass(frozen=True)
class Thing:
    """The identity of one object. No caption names any of it."""

    hue: float
    value: float
    second: int
    trim: int
    shape: tuple[float, float, float, float]
    frequency: float
    phase: float
    emblem: str | None
    emblem_colour: int
    emblem_size: float


@dataclass(frozen=True)
class Face:
    """The identity of one person."""

    skin: float
    hair: str
    style: str
    beard: str
    eyes: int
    width: float
    jaw: float
    spacing: float
    eye_size: float
    brow: float
    nose: float
    mouth: float
    ears: float
    freckles: bool
    mole: float


def random_thing(rng: np.random.Generator) -> Thing:
    return Thing(
        hue=float(rng.uniform(-0.018, 0.018)),
        value=float(rng.uniform(-0.13, 0.10)),
        second=int(rng.integers(4)),
        trim=int(rng.integers(len(TRIMS))),
        shape=tuple(float(v) for v in rng.uniform(-1, 1, 4)),  # type: ignore[arg-type]
        frequency=float(rng.uniform(0.85, 1.2)),
        phase=float(rng.uniform(0, 1)),
        emblem=EMBLEMS[rng.integers(len(EMBLEMS))] if rng.random() < 0.4 else None,
        emblem_colour=int(rng.integers(len(TRIMS) + 3)),
        emblem_size=float(rng.uniform(0.24, 0.32)),
    )


def random_face(rng: np.random.Generator) -> Face:
    return Face(
        skin=float(rng.uniform(0, len(SKINS) - 1)),
        hair=HAIR_NAMES[rng.choice(6, p=[0.25, 0.25, 0.2, 0.14, 0.1, 0.06])],
        style=HAIR_STYLES[rng.choice(7, p=[0.22, 0.18, 0.15, 0.15, 0.12, 0.1, 0.08])],
        beard=BEARDS[rng.choice(3, p=[0.66, 0.16, 0.18])],
        eyes=int(rng.integers(len(EYES))),
        width=float(rng.uniform(0.50, 0.63)),
        jaw=float(rng.uniform(0, 1)),
        spacing=float(rng.uniform(0.20, 0.27)),
        eye_size=float(rng.uniform(0.095, 0.135)),
        brow=float(rng.uniform(0.025, 0.06)),
        nose=float(rng.uniform(0.06, 0.16)),
        mouth=float(rng.uniform(0.15, 0.24)),
        ears=float(rng.uniform(0.10, 0.17)),
        freckles=bool(rng.random() < 0.2),
        mole=float(rng.choice([0.0, 0.0, 0.0, -1.0, 1.0])),
    )


def named_face(name: str) -> Face:
    """The face that belongs to a name, whatever else is in the list of names."""
    digest = hashlib.sha256(name.lower().encode()).digest()
    return random_face(np.random.default_rng(int.from_bytes(digest[:8], "little")))


def main_colour(thing: Thing, colour: str) -> np.ndarray:
    grey = colour in ("white", "black")
    value = thing.value * (0.5 if colour == "white" else 1.0)
    return tone(COLOURS[colour], 0.0 if grey else thing.hue, min(value, 0.0) if grey else value)


def second_colour(thing: Thing, main: np.ndarray) -> np.ndarray:
    """The other colour of a patterned thing: a neutral or a tint, never another named colour."""
    options = [np.asarray(CREAM), main * 0.42, main * 0.35 + 0.65, np.asarray(CHARCOAL)]
    good = [c for c in options if contrast(c, main) > 0.27]
    return good[thing.second % len(good)].astype(np.float32)


def trim_colour(thing: Thing, main: np.ndarray) -> np.ndarray:
    for k in range(len(TRIMS)):
        rgb = np.asarray(TRIMS[(thing.trim + k) % len(TRIMS)], np.float32)
        if contrast(rgb, main) > 0.15:
            return rgb
    return np.asarray(CREAM, np.float32)


def emblem_colour(thing: Thing, main: np.ndarray) -> np.ndarray:
    options = [*TRIMS, COLOURS["red"], COLOURS["blue"], COLOURS["yellow"]]
    for k in range(len(options)):
        rgb = np.asarray(options[(thing.emblem_colour + k) % len(options)], np.float32)
        if contrast(rgb, main) > 0.22:
            return rgb
    return np.asarray(CREAM, np.float32)
