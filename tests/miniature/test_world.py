"""The drawn world: seeded, as its captions say, with masks of what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from personalize.miniature.cache import world_people
from personalize.miniature.world import scene as scenes
from personalize.miniature.world.backgrounds import BACKGROUNDS, background
from personalize.miniature.world.captions import PLACES, caption
from personalize.miniature.world.factors import FACTORS, UNKNOWN, labels, skin_tone, told_labels
from personalize.miniature.world.individuals import named_face, random_thing
from personalize.miniature.world.objects import OBJECTS, PATTERNS
from personalize.miniature.world.palette import COLOURS
from personalize.miniature.world.people import EXPRESSIONS
from personalize.miniature.world.render import on_blank, render

PEOPLE = ["Ada Byron", "Alan Turing"]


def plain(kind: str, **changes) -> scenes.Scene:
    """A scene without accidents."""
    given = {"colour": "red", "background": "studio", "variant": 2, **changes}
    if kind == "person":
        return scenes.Scene(
            kind, face=named_face("Ada Byron"), pose=given.pop("pose", "front"), **given
        )
    return scenes.Scene(kind, thing=random_thing(np.random.default_rng(3)), **given)


def test_size_of_the_world() -> None:
    assert len(OBJECTS) >= 10
    assert len(COLOURS) >= 10
    assert len(PATTERNS) >= 5
    assert len(BACKGROUNDS) >= 10
    assert len(scenes.THING_POSES) >= 4
    assert len(EXPRESSIONS) >= 5
    assert len(set(world_people())) >= 200


def test_a_seed_draws_the_same_scenes_captions_and_pictures() -> None:
    def draw(seed: int):
        rng = np.random.default_rng(seed)
        many = [scenes.random_scene(rng, PEOPLE) for _ in range(12)]
        return many, [caption(s, rng).text for s in many], [render(s)[0] for s in many]

    one, two, other = draw(1), draw(1), draw(2)
    assert one[:2] == two[:2]
    assert all(np.array_equal(a, b) for a, b in zip(one[2], two[2], strict=True))
    assert one[1] != other[1]


def test_a_pattern_shows_on_every_thing_in_every_individual() -> None:
    """Each pattern changes a good part of the thing, whoever it is: no label without a sight."""
    rng = np.random.default_rng(11)
    for kind in OBJECTS:
        for _ in range(6):
            bare = replace(plain(kind), thing=random_thing(rng))
            seen, mask = render(bare)
            for pattern in PATTERNS[1:]:
                changed = np.abs(render(replace(bare, pattern=pattern))[0].astype(int) - seen)
                assert (changed.max(-1)[mask > 250] > 30).mean() > 0.1, (kind, pattern)


def test_a_skin_between_two_tones_has_no_label() -> None:
    assert [skin_tone(v) for v in (0.0, 0.95, 1.05, 1.5, 4.95)] == [
        *("light", None, None, "fair", "dark")
    ]


def test_pictures_have_their_shape_and_kept_backgrounds_stay_untouched() -> None:
    rng = np.random.default_rng(0)
    before = background("beach", 3).copy()
    for kind in scenes.CLASSES:
        maker = scenes.random_person if kind == "person" else scenes.random_object
        scene = maker(rng) if kind == "person" else scenes.random_object(rng, kind)
        picture, mask = render(replace(scene, background="beach", variant=3))
        assert picture.shape == (128, 128, 3)
        assert picture.dtype == np.uint8
        assert mask.shape == (128, 128)
    assert np.array_equal(before, background("beach", 3))


@pytest.mark.parametrize("kind", [*OBJECTS, "person"])
def test_the_mask_is_what_changes_with_the_subject(kind: str) -> None:
    """Outside the mask, only shadow may differ from the empty place; inside, most pixels do."""
    scene = plain(kind, background="grass")
    picture, mask = render(scene)
    empty = background("grass", 2) * 255
    change = np.abs(picture.astype(float) - empty).max(-1)
    inside, outside = mask > 250, mask < 5
    assert 0.06 < inside.mean() < 0.75
    assert (change[inside] > 20).mean() > 0.9
    assert (change[outside] > 120).mean() < 0.01


def test_colour_fills_the_subject() -> None:
    for colour in ("red", "green", "blue", "yellow"):
        picture, mask = render(plain("ball", colour=colour))
        mean = np.median(picture[mask > 250].astype(float), axis=0) / 255
        nearest = min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - mean).sum())
        assert nearest == colour


@pytest.mark.parametrize("pose", ["left", "lying", "upside down"])
@pytest.mark.parametrize("kind", [k for k in OBJECTS if k != "ball"])
def test_poses_show(kind: str, pose: str) -> None:
    upright, turned = render(plain(kind))[1], render(plain(kind, pose=pose))[1]
    assert (np.abs(upright.astype(int) - turned) > 128).mean() > 0.01


def test_mirrored_pose_is_the_mirror_image_of_the_shape() -> None:
    right, left = render(plain("mug"))[1], render(plain("mug", pose="left"))[1]
    assert np.abs(right.astype(int) - left[:, ::-1]).mean() < 3


@pytest.mark.parametrize(
    "changes",
    [
        {"hat": "red"},
        {"state": "wet"},
        {"state": "shiny"},
        {"other": ("ball", "blue")},
        {"size": "close"},
        {"size": "far"},
        *({"pattern": p} for p in PATTERNS[1:]),
    ],
)
def test_every_extra_shows(changes: dict) -> None:
    a, b = render(plain("teapot"))[0], render(plain("teapot", **changes))[0]
    assert (np.abs(a.astype(int) - b).max(-1) > 40).mean() > 0.01


@pytest.mark.parametrize(
    "changes", [{"glasses": True}, {"hat": "blue"}, *({"expression": e} for e in EXPRESSIONS[1:])]
)
def test_every_change_of_a_face_shows(changes: dict) -> None:
    a, b = render(plain("person"))[0], render(plain("person", **changes))[0]
    assert (np.abs(a.astype(int) - b).max(-1) > 40).sum() > 60


def test_a_hat_hides_the_subject() -> None:
    bare, hatted = render(plain("ball"))[1], render(plain("ball", hat="red"))[1]
    assert hatted.sum() < bare.sum()


def test_names_are_fixed_faces_and_differ() -> None:
    assert named_face("Ada Byron") == named_face("ada byron")
    assert named_face("Ada Byron") != named_face("Alan Turing")
    assert len({named_face(name) for name in world_people()}) == len(world_people())


def test_views_keep_the_individual_and_change_the_rest() -> None:
    rng = np.random.default_rng(5)
    for kind in ("mug", "person"):
        one = scenes.random_individual(rng, kind)
        seen = scenes.views(rng, one, 8)
        assert {(s.kind, s.thing, s.face) for s in seen} == {(one.kind, one.thing, one.face)}
        assert len({s.background for s in seen}) > 2
        twin = scenes.random_individual(rng, like=one)
        assert (twin.kind, twin.pattern) == (one.kind, one.pattern)
        assert (twin.thing, twin.face) != (one.thing, one.face)


def test_on_blank_keeps_only_the_subject() -> None:
    picture, mask = render(plain("duck", background="forest"))
    alone = on_blank(picture, mask)
    assert (alone[mask == 0] == 255).all()
    assert np.array_equal(alone[mask == 255], picture[mask == 255])


def test_captions_tell_the_factors_and_nothing_else() -> None:
    """A full caption holds the word of every factor; a label is told only where it is meant."""
    rng = np.random.default_rng(9)
    for _ in range(300):
        scene = scenes.random_scene(rng, PEOPLE)
        told = caption(scene, rng, always=True)
        words = told.text.lower()
        if scene.name:
            assert scene.name.lower() in words
        assert scene.kind in words or scene.name or "face" in words
        assert scene.colour in words
        assert any(place in words for place in PLACES[scene.background])
        for factor in ("state", "pattern"):
            value = getattr(scene, factor)
            assert value in ("dry",) or scene.kind == "person" or value in words
        assert not scene.hat or f"wearing a {scene.hat} hat" in words
        known = told_labels(scene, told.told)
        truth = labels(scene)
        assert all(k in (UNKNOWN, t) for k, t in zip(known, truth, strict=True))


def test_identity_is_never_in_a_caption() -> None:
    """Two individuals of one class, colour and pattern get the same captions."""
    one = plain("mug")
    twin = replace(one, thing=random_thing(np.random.default_rng(8)))
    texts = [[caption(s, np.random.default_rng(n)).text for n in range(40)] for s in (one, twin)]
    assert texts[0] == texts[1]
    assert not np.array_equal(render(one)[0], render(twin)[0])


def test_held_out_combinations_never_train() -> None:
    rng = np.random.default_rng(4)
    training = [scenes.random_scene(rng, PEOPLE) for _ in range(400)]
    kept = [scenes.random_scene(rng, PEOPLE, training=False) for _ in range(50)]
    assert not any(scenes.held_out(s) for s in training)
    assert all(scenes.held_out(s) for s in kept)
    assert {s.kind for s in kept} - {"person"} <= {s.kind for s in training}


def test_labels_fit_their_factors() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        values = labels(scenes.random_scene(rng, PEOPLE))
        for n, options in zip(values, FACTORS.values(), strict=True):
            assert UNKNOWN <= n < len(options)
