"""Individuals of the miniature in DreamBench's layout, and its CLIP in transformers' layout."""

import numpy as np
import pytest
import torch
from personalize.evaluation.features import load_clip
from personalize.miniature.benchmark_data import write_clip, write_subjects
from personalize.miniature.files import WEIGHTS, load_pair
from personalize.miniature.subjects import THING_PROMPTS, face, thing
from personalize.tools.benchmark.data import read_prompts, read_subjects
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
    assert len(prompts.live) == 10
    for number, path in enumerate(read[1].pictures):
        pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()) / 255
        torch.testing.assert_close(pixels, made[0].references.pictures[number])
        mask = torch.from_numpy(np.asarray(Image.open(read[1].masks[number])).copy()) / 255
        torch.testing.assert_close(mask, made[0].references.masks[number])


@pytest.mark.host
def test_the_pair_is_the_same_for_transformers(tmp_path):
    if not (WEIGHTS / "miniature_vision.safetensors").exists():
        pytest.skip("no trained weights")
    from personalize.miniature.host import host_path
    from personalize.miniature.subjects import Jury

    pair = load_pair()
    clip = load_clip(write_clip(tmp_path / "clip", host_path() / "comfy" / "sd1_tokenizer", pair))
    pictures = thing(1).references.pictures
    mine = pair.embed_picture(pictures.movedim(-1, 1).contiguous())
    images = [Image.fromarray((p * 255).round().byte().numpy()) for p in pictures]
    theirs = torch.nn.functional.normalize(clip.embed_pictures(images), dim=-1)
    torch.testing.assert_close(theirs, mine, rtol=0, atol=2e-3)  # weights as fp16
    prompt = "a photo of a red mug on the beach"
    words = Jury(None, None, pair)._embed_text(prompt)
    text = torch.nn.functional.normalize(clip.embed_texts([prompt]), dim=-1)[0]
    torch.testing.assert_close(text, words, rtol=0, atol=2e-3)
