"""Points and boxes: as people write them, as editors give them, and what makes no sense."""

import pytest
from personalize.concepts.errors import PersonalizeError
from personalize.segment.prompt import PlacedPrompt, SegmentPrompt


def placed(positive="", negative="", box="", width=201, height=101):
    return SegmentPrompt.parse(positive, negative, box).at(width, height)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("120, 80", [(120, 80)]),
        ("120 80", [(120, 80)]),
        ("(120, 80)", [(120, 80)]),
        ("120,80;0,0", [(120, 80), (0, 0)]),
        (" 120, 80 ;\n 7.5, 3 ;\n", [(120, 80), (7.5, 3)]),
        ("50%, 50%", [(100, 50)]),
        ("0%, 100 %; 20, 50%", [(0, 100), (20, 50)]),
        ('[{"x": 120, "y": 80.5}, {"x": 1, "y": 2}]', [(120, 80.5), (1, 2)]),
        ('{"x": 120, "y": 80}', [(120, 80)]),
        ("[[120, 80], [1, 2]]", [(120, 80), (1, 2)]),
        ("[120, 80]", [(120, 80)]),
    ],
)
def test_points(text, points):
    assert placed(text) == PlacedPrompt(tuple(points), (1,) * len(points))
    assert placed("3, 4", text) == PlacedPrompt(((3, 4), *points), (1,) + (0,) * len(points))


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("40, 60, 180, 90", (40, 60, 180, 90)),
        ("40 60 180 90", (40, 60, 180, 90)),
        ("[40, 60, 180, 90]", (40, 60, 180, 90)),
        ("[[40, 60, 180.5, 90]]", (40, 60, 180.5, 90)),
        ("10%, 10%, 90%, 90%", (20, 10, 180, 90)),
        ('{"x": 40, "y": 60, "width": 140, "height": 30}', (40, 60, 180, 90)),
        ('[{"x": 40, "y": 60, "width": 140, "height": 30}]', (40, 60, 180, 90)),
        ("-5, -5, 250, 90", (0, 0, 200, 90)),
    ],
)
def test_boxes(text, box):
    assert placed(box=text) == PlacedPrompt(box=box)


def test_without_a_prompt_the_middle():
    middle = PlacedPrompt(((100, 50),), (1,))
    assert placed() == placed(" ", "\n", "") == middle
    assert placed("[]", "[]") == middle
    assert placed(negative="0, 0") == PlacedPrompt(((100, 50), (0, 0)), (1, 0))


@pytest.mark.parametrize(
    ("texts", "ambiguous"),
    [
        ((), True),
        (("3, 4",), True),
        (("3, 4; 5, 6",), False),
        (("3, 4", "5, 6"), False),
        (("", "5, 6"), False),
        (("", "", "1, 1, 9, 9"), False),
    ],
)
def test_one_point_may_mean_several_things(texts, ambiguous):
    assert SegmentPrompt.parse(*texts).ambiguous == ambiguous


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("the dog",), "The points 'the dog' cannot be read. Write x, y in pixels or per cent"),
        (("120",), "'120' cannot be read"),
        (("1, 2, 3",), "'1, 2, 3' cannot be read"),
        (("1, 2; 3",), "'3' cannot be read"),
        (("1.2.3, 4",), "'1.2.3, 4' cannot be read"),
        (('[{"x": 1}]',), r"'\[{\"x\": 1}\]' cannot be read"),
        (("[1, 2",), r"'\[1, 2' cannot be read"),
        (("[true, false]",), "cannot be read"),
        (("nan, inf",), "cannot be read"),
        (("[NaN, 2]",), r"The points '\[NaN, 2\]' cannot be read"),
        (("x" * 500,), "'x{60}...' cannot be read"),
        (("", "here"), "The points 'here' cannot be read"),
        (("", "", "1, 2, 3"), "The box '1, 2, 3' cannot be read. Write left, top, right, bottom"),
        (("", "", '{"x": 1, "y": 2}'), "The box .* cannot be read"),
        (("", "", "[1, 2, Infinity, 4]"), "The box .* cannot be read"),
        (
            ("700, 80",),
            r"point 700, 80 lies outside of picture 1 \(201x101\): x goes from 0 to 200",
        ),
        (("-1, 80",), "point -1, 80 lies outside"),
        (("50%, 101%",), "point 50%, 101% lies outside"),
        (("1, 1", "9, 101"), "point 9, 101 lies outside"),
        (("", "", "40, 60, 40, 90"), "box 40, 60, 40, 90 has no size in picture 1"),
        (("", "", "90, 60, 40, 90"), "box 90, 60, 40, 90 has no size"),
        (("", "", "300, 300, 400, 400"), "box 300, 300, 400, 400 lies outside of picture 1"),
    ],
)
def test_what_makes_no_sense(texts, says):
    with pytest.raises(PersonalizeError, match=says):
        placed(*texts)
