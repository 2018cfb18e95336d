"""Factors of a scene as class numbers, for judges and for auxiliary losses."""

from .backgrounds import BACKGROUNDS
from .individuals import BEARDS, HAIR_STYLES
from .objects import PATTERNS
from .palette import COLOUR_NAMES, HAIR_NAMES
from .people import EXPRESSIONS
from .scene import CLASSES, HAT_COLOURS, OTHERS, SIZES, STATES, Scene

POSES = ["right", "left", "lying", "upside down", "front"]
SKIN_TONES = ["light", "fair", "tan", "brown", "dark"]

FACTORS: dict[str, list[str]] = {
    "kind": CLASSES,
    "colour": COLOUR_NAMES,
    "pattern": PATTERNS,
    "pose": POSES,
    "background": BACKGROUNDS,
    "size": SIZES,
    "state": STATES,
    "hat": ["none", *HAT_COLOURS],
    "glasses": ["no", "yes"],
    "expression": EXPRESSIONS,
    "other": ["none", *OTHERS],
    "other_colour": COLOUR_NAMES,
    "hair": HAIR_NAMES,
    "style": HAIR_STYLES,
    "beard": BEARDS,
    "skin": SKIN_TONES,
}
OF_FACE = ("hair", "style", "beard", "skin")
UNKNOWN = -1
BORDER = 0.1


def skin_tone(skin: float) -> str | None:
    """The name of a skin between 0 and 5, or None on the border of two tones."""
    if 0.5 < skin < 4.5 and abs(skin - round(skin)) < BORDER:
        return None
    return SKIN_TONES[min(4, int(skin))]


def labels(scene: Scene) -> list[int]:
    """One number a factor, in the order of FACTORS; -1 where the factor makes no sense."""
    values: dict[str, str | None] = {
        "kind": scene.kind,
        "background": scene.background,
        "hat": scene.hat or "none",
        "colour": scene.colour,
    }
    if scene.kind == "person":
        assert scene.face is not None
        bald = scene.face.style == "bald"
        values |= {
            "pose": scene.pose,
            "glasses": "yes" if scene.glasses else "no",
            "expression": scene.expression,
            "hair": None if bald else scene.face.hair,
            "style": scene.face.style,
            "beard": scene.face.beard,
            "skin": skin_tone(scene.face.skin),
        }
    else:
        values |= {
            "pattern": scene.pattern,
            "size": scene.size,
            "state": scene.state,
            "pose": None if scene.kind == "ball" else scene.pose,
            "other": scene.other[0] if scene.other else "none",
            "other_colour": scene.other[1] if scene.other else None,
        }
    return [
        options.index(value) if (value := values.get(f)) else UNKNOWN
        for f, options in FACTORS.items()
    ]


def told_labels(scene: Scene, told: frozenset[str]) -> list[int]:
    """The labels that a caption which told `told` lets one know."""
    known = set(told) | (set(OF_FACE) if "face" in told else set())
    return [n if f in known else UNKNOWN for f, n in zip(FACTORS, labels(scene), strict=True)]
