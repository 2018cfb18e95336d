"""What the command that trains ELITE encoders says of options before anything is loaded."""

from types import SimpleNamespace

import pytest
from personalize.cli import train_elite
from personalize.concepts.errors import TrainingError
from PIL import Image

MODELS = ["--checkpoint", "sd", "--clip-vision", "v", "--data", "d", "--output", "o"]


def test_a_folder_that_is_no_comfyui_is_named(tmp_path, capsys):
    assert train_elite.main([*MODELS, "--comfyui", str(tmp_path)]) == 2
    assert f"There is no ComfyUI in {tmp_path}. Name its folder" in capsys.readouterr().err


def test_templates_are_text_with_or_without_a_mark_in_front(tmp_path):
    """The editor of Windows puts a mark before the first prompt, which nobody wrote."""
    file = tmp_path / "templates.txt"
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text("a photo of a {}\n", encoding=encoding)
        assert train_elite.templates_of(file) == "a photo of a {}\n"
    assert train_elite.templates_of(None) == ""
    file.write_text("a photo of a {}\n", encoding="utf-16")
    with pytest.raises(TrainingError, match="templates.txt is no text in UTF-8"):
        train_elite.templates_of(file)


@pytest.mark.host
def test_what_is_white_in_masks_is_so_in_those_of_the_sheets(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    mask.save(tmp_path / "a_mask.png")
    told = []
    for marks in ("subject", "background"):
        args = SimpleNamespace(sample_data=tmp_path, mask_marks=marks, sample_count=1)
        (shown,) = train_elite.sample_subjects(args, SimpleNamespace(with_masks=True))
        told.append(shown.mask[32, 32].item())
    assert told == [1, 0]
