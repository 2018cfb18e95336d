"""Maps in colours."""

import torch
from personalize.pictures.heat import heat, heat_over, scaled

RAMP = torch.linspace(0, 1, 101).view(1, 1, -1)


def test_colours_grow_lighter_from_nothing_to_all():
    colours = heat(RAMP)
    assert colours.shape == (1, 1, 101, 3) and colours.min() >= 0 and colours.max() <= 1
    light = colours[0, 0] @ torch.tensor([0.299, 0.587, 0.114])
    assert (light.diff() > 0).all() and light[-1] - light[0] > 0.8
    assert torch.equal(heat(torch.tensor([[[-1.0, 2.0]]])), heat(torch.tensor([[[0.0, 1.0]]])))


def test_over_a_picture_nothing_is_grey_and_all_is_coloured():
    picture = torch.tensor([0.9, 0.3, 0.3]).expand(1, 101, 3)
    shown = heat_over(RAMP, picture)
    assert shown.shape == (1, 1, 101, 3) and shown.min() >= 0 and shown.max() <= 1
    first, last = shown[0, 0, 0], shown[0, 0, -1]
    assert first.max() - first.min() < 1e-6 and 0 < first[0] < picture.mean()
    assert (last - heat(RAMP)[0, 0, -1]).abs().max() < 0.2
    dark = heat_over(RAMP, torch.zeros(1, 101, 3))
    assert not torch.equal(dark, shown)


def test_scales():
    maps = torch.tensor([[[0.0, 0.1]], [[0.2, 0.4]], [[0.0, 0.0]]])
    assert torch.allclose(scaled(maps), torch.tensor([[[0.0, 1]], [[0.5, 1]], [[0, 0]]]))
    assert torch.allclose(scaled(maps, True), maps / 0.4)
