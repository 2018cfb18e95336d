"""SAM 2 in the host gives what transformers' own pipeline gives, from files of either names."""

import numpy as np
import pytest
import torch
from personalize.concepts.errors import ConceptFileError
from personalize.host import sam_second
from personalize.host.sam import load_sam, predict_masks
from personalize.host.sam_second import HIERAS, Hiera, renamed, sam2_config
from personalize.tests.sam_models import (
    HIERA_2,
    SIDE_2,
    as_the_authors_name,
    transformers_sam2,
)
from safetensors.torch import save_file

pytestmark = pytest.mark.host

pytest.importorskip("transformers.models.sam2", reason="this transformers has no SAM 2")

PROMPTS = {
    "point": {"points": [(20.0, 15.0)], "labels": [1]},
    "points": {"points": [(20.0, 15.0), (40.0, 30.5), (1.0, 1.0)], "labels": [1, 1, 0]},
    "box": {"box": (5.0, 4.0, 44.0, 33.0)},
    "both": {"points": [(20.0, 15.0), (2.0, 2.0)], "labels": [1, 0], "box": (5.0, 4.0, 44.0, 33.0)},
}


@pytest.fixture(scope="module", autouse=True)
def small_encoder():
    with pytest.MonkeyPatch.context() as patch:
        for key, numbers in HIERA_2.items():
            patch.setitem(HIERAS, key, Hiera(*numbers))
        yield


@pytest.fixture(scope="module")
def theirs():
    return transformers_sam2()


@pytest.fixture(scope="module")
def model(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("sams") / "any name.pt"
    torch.save({"model": as_the_authors_name(theirs.state_dict())}, path)
    with torch.inference_mode():
        return load_sam(path)


def picture(height=37, width=50, seed=0):
    """Bytes and the IMAGE that the host's Load Image makes of them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels, torch.from_numpy(pixels.astype(np.float32) / 255)


def processor():
    from transformers import Sam2Processor
    from transformers.models import sam2

    images = getattr(sam2, "Sam2ImageProcessorFast", None) or sam2.Sam2ImageProcessor
    return Sam2Processor(images(size={"height": SIDE_2, "width": SIDE_2}))


@torch.no_grad()
def reference(theirs, pixels, several, points=None, labels=None, box=None):
    """transformers' pipeline, as its documentation uses it."""
    process = processor()
    inputs = process(
        images=pixels,
        input_points=[[[list(point) for point in points]]] if points else None,
        input_labels=[[labels]] if labels else None,
        input_boxes=[[list(box)]] if box else None,
        return_tensors="pt",
    )
    sizes = inputs.pop("original_sizes")
    output = theirs(**inputs, multimask_output=several)
    (masks,) = process.post_process_masks(output.pred_masks, sizes)
    return masks[0], output.iou_scores[0, 0]


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("several", [True, False])
def test_the_pipeline_of_transformers_gives_the_same(theirs, model, prompt, several):
    for height, width in ((37, 50), (90, 60), (200, 300)):
        pixels, image = picture(height, width)
        masks, quality = predict_masks(model, image, several=several, **prompt)
        assert masks.shape == (3 if several else 1, height, width) and masks.dtype == torch.bool
        expected, expected_quality = reference(theirs, pixels, several, **prompt)
        assert torch.equal(masks, expected)
        assert torch.allclose(quality, expected_quality, atol=1e-6)


def test_the_masks_of_the_random_network_tell_prompts_apart(model):
    """Else equality with transformers would say little."""
    _, image = picture()
    answers = [predict_masks(model, image, **prompt) for prompt in PROMPTS.values()]
    assert 0 < answers[0][0].float().mean() < 1
    for n, one in enumerate(answers):
        assert all(not torch.equal(one[1], other[1]) for other in answers[n + 1 :])


def test_preprocessing_is_that_of_the_processor(model):
    for height, width in ((37, 50), (300, 200)):
        pixels, _ = picture(height, width)
        expected = processor()(images=pixels, return_tensors="pt")["pixel_values"]
        assert torch.allclose(model.generation.preprocessed(pixels), expected, atol=1e-5)


def test_files_under_the_names_of_transformers(theirs, model, tmp_path):
    tensors = {key: tensor.half().clone() for key, tensor in theirs.state_dict().items()}
    tensors["memory_attention.layer_norm.weight"] = torch.zeros(3)
    save_file(tensors, tmp_path / "model.safetensors")
    half = load_sam(tmp_path / "model.safetensors")
    assert all(p.dtype == torch.float32 for p in half.generation.module.parameters())
    torch.save({"net": {f"sam.{k}": t for k, t in theirs.state_dict().items()}}, tmp_path / "x.pth")
    same = load_sam(tmp_path / "x.pth")
    _, image = picture()
    for one, other in zip(
        predict_masks(same, image, **PROMPTS["box"]),
        predict_masks(model, image, **PROMPTS["box"]),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_every_tensor_has_its_name(theirs):
    ours = renamed(as_the_authors_name(theirs.state_dict()))
    del ours["memory_encoder.o_proj.weight"]
    expected = theirs.state_dict()
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("authors", "name"),
    [
        ("image_encoder.trunk.blocks.3.norm1.weight",
         "vision_encoder.backbone.blocks.3.layer_norm1.weight"),
        ("image_encoder.trunk.blocks.21.mlp.layers.1.bias",
         "vision_encoder.backbone.blocks.21.mlp.proj_out.bias"),
        ("image_encoder.neck.convs.2.conv.weight", "vision_encoder.neck.convs.2.weight"),
        ("sam_mask_decoder.transformer.layers.1.cross_attn_image_to_token.out_proj.bias",
         "mask_decoder.transformer.layers.1.cross_attn_image_to_token.o_proj.bias"),
        ("sam_mask_decoder.output_hypernetworks_mlps.3.layers.1.weight",
         "mask_decoder.output_hypernetworks_mlps.3.layers.0.weight"),
        ("sam_mask_decoder.pred_obj_score_head.layers.2.bias",
         "mask_decoder.pred_obj_score_head.proj_out.bias"),
        ("sam_prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
        ("no_mem_embed", "no_memory_embedding"),
    ],
)  # fmt: skip
def test_names_of_the_published_files(authors, name):
    assert list(renamed({authors: torch.zeros(1)})) == [name]


PUBLISHED = {
    "tiny": (96, (1, 2, 7, 2), 38_900_000),
    "small": (96, (1, 2, 11, 2), 46_000_000),
    "base+": (112, (2, 3, 16, 3), 80_800_000),
    "large": (144, (2, 6, 36, 4), 224_400_000),
}
"""Width, blocks and, in the authors' table, parameters with those for videos."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_are_told_from_their_tensors(name):
    from transformers import Sam2Model

    width, blocks, parameters = PUBLISHED[name]
    hiera = HIERAS[width, blocks]
    assert hiera.name == name
    backbone = "vision_encoder.backbone."
    sizes = [width * 2**n for n in range(4) for _ in range(blocks[n])]
    tensors = {f"{backbone}blocks.{n}.attn.proj.weight": (size,) for n, size in enumerate(sizes)}
    tensors |= {
        f"{backbone}pos_embed": (1, width, *((14, 14) if name == "base+" else (7, 7))),
        "vision_encoder.neck.convs.0.weight": (256,),
        "prompt_encoder.point_embed.weight": (4, 256),
        "mask_decoder.transformer.layers.0.mlp.proj_in.weight": (2048,),
        "mask_decoder.iou_prediction_head.proj_in.weight": (256,),
    }
    with torch.device("meta"):
        config = sam2_config({key: torch.empty(size) for key, size in tensors.items()})
        network = Sam2Model(config)
    own = network.state_dict()
    assert all(own[key].shape[: len(size)] == size for key, size in tensors.items())
    count = sum(p.numel() for p in network.parameters())
    assert 0 < parameters - count < 0.2 * parameters  # what remembers frames is left out


def test_files_that_are_no_sam_2(theirs, tmp_path, monkeypatch):
    tensors = as_the_authors_name(theirs.state_dict())
    few = dict(list(tensors.items())[:-5])
    torch.save({"model": few}, tmp_path / "few.pt")
    torch.save(tensors | {"no_mem_embed": torch.full((1, 1, 32), torch.nan)}, tmp_path / "nan.pt")
    for name, says in (
        ("few", r"'few.pt' is no whole SAM \(.*Missing key"),
        ("nan", "NaN or infinite numbers in no_memory_embedding"),
    ):
        with pytest.raises(ConceptFileError, match=says):
            load_sam(tmp_path / f"{name}.pt")
    torch.save(tensors, tmp_path / "odd.pt")
    monkeypatch.delitem(HIERAS, next(iter(HIERA_2)))
    with pytest.raises(
        ConceptFileError, match="encoder of width 16 with .1, 1, 2, 1. blocks.*tiny"
    ):
        load_sam(tmp_path / "odd.pt")


def test_a_transformers_without_it_says_what_to_do(theirs, tmp_path, monkeypatch):
    torch.save(as_the_authors_name(theirs.state_dict()), tmp_path / "x.pt")
    monkeypatch.setattr(sam_second, "_transformers_parts", sam_second._transformers_parts)
    monkeypatch.setitem(__import__("sys").modules, "transformers.models.sam2", None)
    monkeypatch.delattr("transformers.models.sam2", raising=False)
    with pytest.raises(ConceptFileError, match="has no SAM 2 .*Expected 4.56 or newer.*first vers"):
        load_sam(tmp_path / "x.pt")
