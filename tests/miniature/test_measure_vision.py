"""What the vision encoder sees is read by probes that find what is there, and only that."""

import pytest
import torch
from personalize.miniature import measure_vision as measure
from personalize.miniature.files import load_pair

pytestmark = pytest.mark.host


def test_a_probe_finds_a_class_that_is_there_and_none_in_noise():
    generator = torch.Generator().manual_seed(0)
    kinds, wanted = (torch.randint(3, (n,), generator=generator) for n in (300, 200))
    noise = [torch.randn(n, 8, generator=generator) for n in (300, 200)]
    clear = [x + 6 * torch.eye(3, 8)[k] for x, k in zip(noise, (kinds, wanted), strict=True)]
    assert measure.probe(clear[0], kinds, clear[1], wanted) > 0.95
    assert measure.probe(noise[0], kinds, noise[1], wanted) < 0.5


def test_every_layer_that_elite_reads_is_measured():
    pair = load_pair()
    found = measure.measure(pair.vision, pair, learn=120, test=40)
    probes = {name for name in found if "probe" in name}
    assert len(probes) == 2 * 2 * len(measure.READ)
    assert all(0 <= share <= 1 for share in found.values())
    assert found["class, zero-shot"] > 0.8  # 93 % of 800


def test_pictures_are_changed_as_told():
    scenes = measure.unseen(2, 7)
    pictures = measure.rendered(scenes)
    alone = measure.alone(pictures, torch.Generator().manual_seed(1))
    outside = pictures[:, 3] == 0
    for one, beside in zip(alone, outside, strict=True):
        assert len(one[:3, beside].unique()) == 1  # one grey
    inside = (pictures[:, 3:] == 1).expand_as(pictures)
    assert torch.equal(alone[inside], pictures[inside])
    moved = measure.moved(pictures, torch.Generator().manual_seed(1))
    assert moved.shape == pictures.shape and not torch.equal(moved, pictures)
