"""Individuals of the miniature in DreamBench's layout."""

import numpy as np
import torch
from personalize.cli.benchmark.data import read_prompts, read_subjects
from personalize.miniature.benchmark_data import write_subjects
from personalize.miniature.subjects import FACE_PROMPTS, THING_PROMPTS, face, thing
from PIL import Image


def test_subjects_come_back_from_disk(tmp_path):
    made = [thing(0), face(0)]
    write_subjects(tmp_path, made)
    read = read_subjects(tmp_path)
    assert [s.name for s in read] == ["face_0", "thing_0"]
    assert [s.class_word for s in read] == ["person", made[0].class_word]
    assert read[0].live and read[0].person and not read[1].live
    prompts = read_prompts(tmp_path / "prompts_and_classes.txt")
    assert prompts.objects == tuple(p.text for p in THING_PROMPTS)
    assert prompts.live == tuple(p.text for p in FACE_PROMPTS)
    for number, path in enumerate(read[1].pictures):
        pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()) / 255
        torch.testing.assert_close(pixels, made[0].references.pictures[number])
        mask = torch.from_numpy(np.asarray(Image.open(read[1].masks[number])).copy()) / 255
        torch.testing.assert_close(mask, made[0].references.masks[number])
