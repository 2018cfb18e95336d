"""Folders to train ELITE on: which pictures and boxes are taken, and what is wrong with others."""

from pathlib import Path

import pytest
import torch
from personalize.cli import train_elite
from personalize.concepts.errors import PictureError, TrainingError
from personalize.pictures.masks import MaskMarks
from personalize.training.elite.config import EliteConfig, TrainingStage
from personalize.training.elite.examples import Unusable
from personalize.training.elite.folders import OpenImages, PictureFolder, around
from PIL import Image

pytestmark = pytest.mark.host
ANY = torch.Generator()
CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"


def save(path, width=200, height=160, colour=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (colour, 30, 60)).save(path)


def save_mask(path, box, width=200, height=160):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", (width, height))
    mask.paste(255, box)
    mask.save(path)


def test_masks_beside_the_pictures_or_in_a_folder(tmp_path):
    save(tmp_path / "a.jpg")
    save_mask(tmp_path / "a_mask.png", (0, 0, 100, 160))
    save(tmp_path / "b.png")
    save_mask(tmp_path / "masks" / "b.png", (0, 0, 25, 20), 50, 40)
    folder = PictureFolder(tmp_path, with_masks=True)
    assert len(folder) == 2
    first, second = (folder.load(n, ANY) for n in range(2))
    assert first.picture.shape == (160, 200, 3) and first.mask.mean() == 0.5
    assert second.mask.shape == (160, 200) and second.mask.mean() == 0.25
    assert PictureFolder(tmp_path, with_masks=False).load(0, ANY).mask is None


def test_a_picture_that_is_damaged_or_has_an_empty_mask_is_told_apart(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    save(tmp_path / "b.jpg")
    save_mask(tmp_path / "b_mask.png", (0, 0, 0, 0))
    with pytest.raises(PictureError, match="a.jpg cannot be read"):
        PictureFolder(tmp_path, with_masks=False).load(0, ANY)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(PictureError, match="mask b_mask.png is empty"):
        PictureFolder(tmp_path, with_masks=True).load(0, ANY)


def test_folders_that_cannot_work(tmp_path):
    with pytest.raises(TrainingError, match="no picture in .*ending in .apng, .avif, .bmp"):
        PictureFolder(tmp_path, with_masks=False)
    with pytest.raises(TrainingError, match="There is no folder .*nowhere"):
        PictureFolder(tmp_path / "nowhere", with_masks=False)
    for name in "abc":
        save(tmp_path / f"{name}.jpg")
    save_mask(tmp_path / "b_mask.png", (0, 0, 9, 9))
    with pytest.raises(TrainingError, match="2 of 3 pictures .* such as a.jpg.*a_mask.png beside"):
        PictureFolder(tmp_path, with_masks=True)


def cut_out(path):
    image = Image.new("RGBA", (200, 160), (90, 30, 60, 0))
    image.paste((90, 30, 60, 255), (50, 40, 150, 120))
    image.save(path)


def test_a_cut_out_brings_its_mask_and_what_it_hides_is_white(tmp_path):
    cut_out(tmp_path / "a.png")
    subject = PictureFolder(tmp_path, with_masks=True).load(0, ANY)
    assert subject.mask.mean() == 0.25 and (subject.picture[subject.mask == 0] == 1).all()
    Image.new("RGBA", (200, 160), (90, 30, 60, 255)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="a.png has no mask, and no pixel of it is transparent"):
        PictureFolder(tmp_path, with_masks=True).load(0, ANY)


def test_masks_of_the_published_pictures_are_no_pictures(tmp_path, caplog):
    save(tmp_path / "1.jpg")
    save_mask(tmp_path / "1_bg.png", (50, 40, 150, 120))
    (tmp_path / "2.heic").touch()
    folder = PictureFolder(tmp_path, with_masks=True)
    assert len(folder) == 1 and folder.load(0, ANY).mask.mean() == 0.25
    assert "Left out: 2.heic." in caplog.text


def test_another_mask_is_another_training(tmp_path):
    save(tmp_path / "a.jpg")
    save_mask(tmp_path / "a_mask.png", (0, 0, 100, 160))
    before = [PictureFolder(tmp_path, masked).identity() for masked in (False, True)]
    save_mask(tmp_path / "a_mask.png", (0, 0, 100, 160), 400, 320)
    after = [PictureFolder(tmp_path, masked).identity() for masked in (False, True)]
    assert before[0] == after[0] and before[1] != after[1]
    turned = [PictureFolder(tmp_path, m, MaskMarks.BACKGROUND).identity() for m in (False, True)]
    assert turned[0] == after[0] and turned[1] != after[1]


@pytest.mark.parametrize(("said", "share"), [("auto", 0.25), ("subject", 0.75)])
def test_what_is_white_in_the_masks_is_said_on_the_command_line(tmp_path, said, share):
    """As Load Image writes the mask of a cut-out: white around the subject."""
    save(tmp_path / "a.jpg")
    mask = Image.new("L", (200, 160), 255)
    mask.paste(0, (50, 40, 150, 120))
    mask.save(tmp_path / "a_mask.png")
    places = ["--checkpoint", "c", "--clip-vision", "v", "--output", "o", "--data", str(tmp_path)]
    args = train_elite.parser().parse_args([*places, "--mask-marks", said])
    subjects = train_elite.subjects_of(args, EliteConfig(stage=TrainingStage.LOCAL))
    assert subjects.load(0, ANY).mask.mean() == share
    assert tuple(marks.value for marks in MaskMarks) == train_elite.MASK_MARKS


def test_what_saves_memory_is_said_on_the_command_line():
    places = ["--checkpoint", "c", "--clip-vision", "v", "--output", "o", "--data", "d"]
    told = ["--micro-batch", "2", "--gradient-checkpointing", "--keep-activations"]
    plain, said = (
        train_elite.config_of_options(train_elite.parser().parse_args([*places, *more]))
        for more in ([], told)
    )
    names = ("micro_batch", "gradient_checkpointing", "keep_activations")
    assert [getattr(plain, name) for name in names] == [0, False, False]
    assert [getattr(said, name) for name in names] == [2, True, True]


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here")
def test_a_published_folder_of_odd_files_is_read_whole():
    folder = PictureFolder(CASES / "masks" / "folder", with_masks=False)
    subjects = [folder.load(n, ANY) for n in range(len(folder))]
    assert len({subject.picture.shape for subject in subjects}) == 1
    spread = torch.stack([subject.picture for subject in subjects]).std(dim=0)
    assert spread.mean() < 0.02


BOXES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded
aa,x,/m/1,1,0.25,0.75,0.25,0.75,0
aa,x,/m/1,1,0.0,0.1,0.0,0.1,0
bb,x,/m/1,1,0.0,1.0,0.0,1.0,0
"""
SEGMENTS = """MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks
aa_m1.png,aa,/m/1,b1,0.1,0.9,0.1,0.9,0.9,
"""


@pytest.fixture
def open_images(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "test-annotations-bbox.csv").write_text(BOXES)
    table = tmp_path / "annotations" / "test-annotations-object-segmentation.csv"
    table.write_text(SEGMENTS)
    save(tmp_path / "images" / "test" / "aa.jpg", 400, 300)
    return tmp_path


def test_boxes_between_2_and_80_percent_are_cropped_with_a_margin(open_images):
    boxes = OpenImages(open_images, "test", with_masks=False)
    assert len(boxes) == 1
    assert boxes.load(0, ANY).picture.shape == (150 + 20, 200 + 20, 3)


def test_masked_subjects_are_cropped_around_the_mask(open_images):
    save_mask(open_images / "segs" / "test" / "aa_m1.png", (100, 100, 220, 250), 400, 300)
    subject = OpenImages(open_images, "test", with_masks=True).load(0, ANY)
    height, width = subject.mask.shape
    assert subject.picture.shape == (height, width, 3)
    assert 120 + 20 <= width <= 120 + 38 and height - width == 30
    assert subject.mask.sum() == 120 * 150


@pytest.mark.parametrize("box", [(0, 0, 99, 120), (0, 0, 100, 201)])
def test_small_and_narrow_subjects_are_left_out(box):
    mask = torch.zeros(300, 300)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    with pytest.raises(Unusable, match="has .* pixels"):
        around(mask, 10, "m")


BAD_TABLES = [
    ("ImageID,XMin,XMax,YMin\naa,0,1,0\n", "has no column YMax. Expected a table of OpenImages"),
    (BOXES + "cc,x,/m/1,1,0.2,oops,0.1,0.4,0\n", "Line 5 of test-ann.*could not convert.*oops"),
    (BOXES + "cc,x,/m/1,1,0.2\n", "Line 5 of .*cannot be read.*cut off"),
    (BOXES.replace("0.25", "0.74"), "No box in .* has between 2% and 80%"),
    (BOXES.replace("aa,", "zz,"), "There is no .*zz.jpg, which .* names first"),
]


@pytest.mark.parametrize(("text", "says"), BAD_TABLES)
def test_tables_that_cannot_be_read(text, says, open_images):
    (open_images / "annotations" / "test-annotations-bbox.csv").write_text(text)
    with pytest.raises(TrainingError, match=says):
        OpenImages(open_images, "test", with_masks=False)


def test_a_missing_table(open_images):
    with pytest.raises(TrainingError, match="There is no .*oidv6-train-annotations-bbox.csv"):
        OpenImages(open_images, "train", with_masks=False)
