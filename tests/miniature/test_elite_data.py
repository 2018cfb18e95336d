"""Pictures of the miniature's world with masks, to train ELITE on."""

import numpy as np
import pytest
from personalize.miniature.train.elite_data import scene_of, write
from PIL import Image


def test_pictures_have_masks_beside_them_and_are_the_same_each_time(tmp_path):
    write(tmp_path / "a", 3)
    write(tmp_path / "b", 2)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [f"00000{n}{kind}.png" for n in range(3) for kind in ("", "_mask")]
    for name in names[:4]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    mask = np.asarray(Image.open(tmp_path / "a" / "000000_mask.png"))
    assert mask.shape == (128, 128) and mask.max() == 255 and mask.min() == 0


def test_scenes_are_things_alone_and_people():
    scenes = [scene_of(n) for n in range(200)]
    assert 0.2 < np.mean([scene.face is not None for scene in scenes]) < 0.4
    assert all(scene.other is None for scene in scenes if scene.face is None)


@pytest.mark.host
def test_the_training_reads_them(tmp_path):
    from personalize.training.elite.folders import PictureFolder

    write(tmp_path, 2)
    assert len(PictureFolder(tmp_path, with_masks=True)) == 2
