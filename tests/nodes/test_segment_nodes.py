"""From a checkpoint in models/sams to masks: as the host runs each node, and on a server."""

import io as files
from typing import Any

import numpy as np
import pytest
import torch
from folder_paths import get_temp_directory
from personalize.concepts.errors import ConceptFileError, PersonalizeError
from personalize.nodes.segment import LoadSAM, SegmentSubject
from personalize.pictures.masks import read_masks
from personalize.tests.sam_models import package_sam, save_sam
from PIL import Image

pytestmark = pytest.mark.host

NAME = "mine/any name.pth"


def run(node, **inputs) -> Any:
    with torch.inference_mode():
        return node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**inputs)


@pytest.fixture(scope="module")
def sam(host_base):
    save_sam(host_base / "models" / "sams" / NAME)
    return run(LoadSAM, sam_name=NAME).result[0]


def segment(sam, *images, **inputs) -> Any:
    """As the host calls a node that takes lists: each input as one."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
    return run(SegmentSubject, sam_model=[sam], image=list(images), **lists)


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_folder_is_that_of_other_packs(sam, host_base):
    import folder_paths

    assert NAME in LoadSAM.INPUT_TYPES()["required"]["sam_name"][1]["options"]
    paths, suffixes = folder_paths.folder_names_and_paths["sams"]
    assert str(host_base / "models" / "sams") in paths
    assert {".pth", ".safetensors"} <= suffixes
    before = LoadSAM.fingerprint_inputs(NAME)
    assert before == LoadSAM.fingerprint_inputs(NAME)
    with pytest.raises(ConceptFileError, match="no SAM 'gone.pth'. Looked in .*sams.*press R"):
        LoadSAM.fingerprint_inputs("gone.pth")


def test_batches_give_batches_and_lists_give_lists(sam):
    images = [pictures(2, 40, 50, 3), pictures(1, 60, 30, 3, seed=1)]
    masks, candidates, overlays = segment(sam, *images).result
    assert [m.shape for m in masks] == [(2, 40, 50), (1, 60, 30)]
    assert [c.shape for c in candidates] == [(6, 40, 50), (3, 60, 30)]
    assert [o.shape for o in overlays] == [(2, 40, 50, 3), (1, 60, 30, 3)]
    for given in (*masks, *candidates, *overlays):
        assert given.dtype == torch.float32 and given.device.type == "cpu"
        assert given.min() >= 0 and given.max() <= 1
    flat = [picture for batch in images for picture in batch]
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            read_masks(masks, flat), [m for batch in masks for m in batch], strict=True
        )
    )


def test_every_input_acts(sam):
    image = pictures(1, 40, 50, 3)
    plain = {"largest_part": False, "fill_holes": 0.0}
    (mask,), (candidates,), _ = segment(sam, image, **plain).result
    for number in "123":
        ((one,), *_) = segment(sam, image, candidate=number, **plain).result
        assert torch.equal(one[0], candidates[int(number) - 1])
    for change in ({"points": "3, 4"}, {"box": "0, 0, 20, 20"}, {"negative_points": "3, 4"}):
        _, (other,), _ = segment(sam, image, **plain, **change).result
        assert not torch.equal(other, candidates)
    areas = [segment(sam, image, **plain, grow=n).result[0][0].mean() for n in (-2, 0, 2)]
    assert areas == sorted(areas) and areas[0] < areas[2]
    soft = segment(sam, image, **plain, soften=8).result[0][0]
    assert ((soft > 0) & (soft < 1)).any()
    largest = segment(sam, image, largest_part=True, fill_holes=0.0).result[0][0]
    assert largest.sum() <= mask.sum()


def test_a_list_of_texts_gives_each_picture_its_own(sam):
    image = pictures(1, 40, 50, 3)
    _, (first, second), _ = segment(sam, image, image, points=["3, 4", "45, 30"]).result
    _, (alone,), _ = segment(sam, image, points="45, 30").result
    assert torch.equal(second, alone) and not torch.equal(first, second)


def test_the_preview_is_a_picture_of_each(sam):
    ui = segment(sam, pictures(2, 40, 50, 3), pictures(1, 60, 30, 3)).ui
    shown = ui.as_dict()["images"]
    assert len(shown) == 3
    for one in shown:
        assert one["type"] == "temp"
        with Image.open(f"{get_temp_directory()}/{one['subfolder']}/{one['filename']}") as picture:
            assert picture.size[0] > 4 * 100


def ring(count=1, size=40):
    """A subject with a small hole, and a speck beside it."""
    mask = torch.zeros(count, size, size)
    mask[:, 10:30, 10:30], mask[:, 19:21, 19:21], mask[:, 2, 2] = 1, 0, 1
    return mask


def tidied(*images, **inputs) -> Any:
    lists = {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}
    return run(SegmentSubject, image=list(images), **lists)


def test_a_mask_is_only_tidied():
    images = [pictures(2, 40, 40, 3), pictures(1, 40, 40, 3, seed=1)]
    output = tidied(*images, mask=[ring(3)], fill_holes=0.05)
    masks, candidates, overlays = output.result
    expected = torch.zeros(40, 40)
    expected[10:30, 10:30] = 1
    assert [m.shape for m in masks] == [(2, 40, 40), (1, 40, 40)]
    assert all(torch.equal(one, expected) for batch in masks for one in batch)
    assert torch.equal(torch.cat(candidates), ring(3))
    assert [o.shape for o in overlays] == [(2, 40, 40, 3), (1, 40, 40, 3)]
    assert len(output.ui.as_dict()["images"]) == 3
    (grown,) = tidied(images[1], mask=ring(), fill_holes=0.05, grow=2).result[0]
    assert grown.sum() > expected.sum()


def test_the_mask_of_a_cut_out_comes_out_the_right_way_round(monkeypatch):
    texts = []
    monkeypatch.setattr(
        "personalize.nodes.segment.NodeProgress.show_text",
        lambda self, text: texts.append(text),
    )
    image = pictures(1, 40, 40, 3)
    plain = {"largest_part": False, "fill_holes": 0.0}
    (turned,) = tidied(image, mask=1 - ring(), **plain).result[0]
    assert torch.equal(turned, ring())
    assert "Mask 1 is white along the border" in texts[-1] and "mask covers" in texts[-1]
    (kept,) = tidied(image, mask=1 - ring(), mask_marks="subject", **plain).result[0]
    assert torch.equal(kept, 1 - ring())


def test_neither_a_model_nor_a_mask():
    with pytest.raises(PersonalizeError, match="neither a model nor a mask. Connect Load SAM"):
        tidied(pictures(1, 40, 40, 3))


def test_cancel_and_progress(sam, monkeypatch):
    from comfy import model_management

    texts = []
    monkeypatch.setattr(
        "personalize.nodes.segment.NodeProgress.show_text",
        lambda self, text: texts.append(text),
    )
    segment(sam, pictures(2, 40, 50, 3))
    assert texts[:3] == [f"{n} of 2 pictures" for n in range(3)]
    assert "mask covers" in texts[3] or "nothing was found" in texts[3]
    model_management.interrupt_current_processing()
    with pytest.raises(model_management.InterruptProcessingException):
        segment(sam, pictures(2, 40, 50, 3))


@pytest.mark.parametrize(
    ("images", "inputs", "says"),
    [
        ([], {}, "There is no picture to segment"),
        ([torch.rand(1, 40, 50, 3)], {"points": "the dog"}, "'the dog' cannot be read"),
        ([torch.rand(1, 40, 50, 3)], {"box": "9, 9, 9, 20"}, "box 9, 9, 9, 20 has no size"),
        ([torch.rand(1, 40, 50, 3)], {"negative_points": "60, 3"}, "60, 3 lies outside of picture"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(sam, images, inputs, says):
    with pytest.raises(PersonalizeError, match=says):
        segment(sam, *images, **inputs)


def test_a_sam_of_another_pack_is_refused():
    with pytest.raises(PersonalizeError, match="at sam_model, got a Sam. Connect Load SAM"):
        segment(package_sam(), pictures(1, 40, 50, 3))


@pytest.mark.server
def test_on_a_server(server):
    save_sam(server.base_directory / "models" / "sams" / "tiny.pth")
    content = files.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    name = server.client.upload_image("subject.png", content.getvalue())
    nodes = {
        "sam": ("PersonalizeLoadSAM", {"sam_name": "tiny.pth"}),
        "picture": ("LoadImage", {"image": name}),
        "mask": ("PersonalizeSegmentSubject", {"sam_model": ["sam", 0], "image": ["picture", 0]}),
        "shown": ("MaskToImage", {"mask": ["mask", 1]}),
        "kept": ("SaveImage", {"images": ["shown", 0], "filename_prefix": "candidates"}),
    }
    graph = {key: {"class_type": kind, "inputs": given} for key, (kind, given) in nodes.items()}
    run = server.client.run(graph)
    kept = [file for file in run.files("images") if file["type"] == "output"]
    assert len(kept) == 3
    with Image.open(files.BytesIO(server.client.fetch(kept[0]))) as picture:
        assert picture.size == (50, 40)
    previews = [file for file in run.files("images") if file["type"] == "temp"]
    assert len(previews) == 1
