"""SAM in the host gives exactly what the package's own predictor gives."""

import gc
import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from personalize.concepts.errors import ConceptFileError
from personalize.host import sam as sams
from personalize.host.sam import load_sam, predict_masks
from personalize.host.sam_first import build_sam, sam_shape
from personalize.tests.devices import on_cpu, same
from personalize.tests.sam_models import package_sam, save_sam
from PIL import Image
from safetensors.torch import save_file

pytestmark = pytest.mark.host

DATA = Path(__file__).parents[3] / "shared/data"
PROMPTS = [
    {"points": [(20.0, 15.0)], "labels": [1]},
    {"points": [(20.0, 15.0), (40.0, 30.5), (1.0, 1.0)], "labels": [1, 1, 0]},
    {"box": (5.0, 4.0, 44.0, 33.0)},
    {"points": [(20.0, 15.0), (2.0, 2.0)], "labels": [1, 0], "box": (5.0, 4.0, 44.0, 33.0)},
]


def picture(height=37, width=50, seed=0):
    """Bytes and the IMAGE that the host's Load Image makes of them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels, torch.from_numpy(pixels.astype(np.float32) / 255)


def reference(sam, pixels, several=True, points=None, labels=None, box=None):
    """The package's own predictor, as its notebooks use it."""
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam)
    predictor.set_image(pixels)
    return predictor.predict(
        point_coords=np.array(points) if points else None,
        point_labels=np.array(labels) if labels else None,
        box=np.array(box) if box else None,
        multimask_output=several,
    )[:2]


def assert_same(ours, theirs):
    """Masks and qualities. On a GPU some numbers round to the other side of a mask's border."""
    for one, other in zip(ours, map(torch.as_tensor, theirs), strict=True):
        if one.dtype == torch.bool and not on_cpu():
            assert one.shape == other.shape and (one != other).float().mean() < 0.005
        else:
            assert same(one, other)


@pytest.fixture(scope="module")
def sam():
    return package_sam()


@pytest.fixture(scope="module")
def path(sam, tmp_path_factory):
    return save_sam(tmp_path_factory.mktemp("sams") / "any name.pth", sam)


@pytest.fixture(scope="module")
def model(path):
    with torch.inference_mode():
        return load_sam(path)


@pytest.mark.parametrize("prompt", PROMPTS, ids=["point", "points", "box", "points and box"])
@pytest.mark.parametrize("several", [True, False])
def test_the_packages_own_predictor_gives_the_same(sam, model, prompt, several):
    for height, width in ((37, 50), (90, 60), (64, 64)):
        pixels, image = picture(height, width)
        masks, quality = predict_masks(model, image, several=several, **prompt)
        assert masks.shape == (3 if several else 1, height, width) and masks.dtype == torch.bool
        assert_same((masks, quality), reference(sam, pixels, several, **prompt))


def test_the_masks_of_the_random_network_tell_prompts_apart(model):
    """Else equality with the package would say little."""
    _, image = picture()
    answers = [predict_masks(model, image, **prompt) for prompt in PROMPTS]
    assert 0 < answers[0][0].float().mean() < 1
    for n, one in enumerate(answers):
        assert all(not torch.equal(one[1], other[1]) for other in answers[n + 1 :])


@pytest.mark.parametrize(
    "shape",
    [
        {"width": 48, "heads": 3, "depth": 2, "global_blocks": (0,), "window": 2},
        {"side": 96, "depth": 4, "global_blocks": (1, 3), "window": 5, "channels": 64},
        {"depth": 2, "global_blocks": (0, 1)},
    ],
)
def test_depth_and_width_are_read_from_the_tensors(shape, tmp_path):
    sam = package_sam(seed=3, **shape)
    pixels, image = picture()
    ours = predict_masks(load_sam(save_sam(tmp_path / "x.pth", sam)), image, **PROMPTS[1])
    assert_same(ours, reference(sam, pixels, **PROMPTS[1]))


def test_the_published_sizes_have_the_packages_networks():
    """Without weights: names and shapes of every tensor of ViT-B, ViT-L and ViT-H."""
    from segment_anything import sam_model_registry

    for kind, width, heads in (("vit_b", 768, 12), ("vit_l", 1024, 16), ("vit_h", 1280, 16)):
        with torch.device("meta"):
            theirs = sam_model_registry[kind]()
        shape = sam_shape(theirs.state_dict())
        assert (shape.side, shape.width, shape.heads, shape.grid) == (1024, width, heads, 64)
        pairs = heads * (64 * 64) ** 2  # of places that look at each other, in fp32
        assert shape.attention_bytes == 3 * 4 * pairs
        ours = build_sam(shape)
        assert repr(ours) == repr(theirs)
        shapes = {key: t.shape for key, t in ours.state_dict().items()}
        assert shapes == {key: t.shape for key, t in theirs.state_dict().items()}
        for mine, other in zip(ours.image_encoder.blocks, theirs.image_encoder.blocks, strict=True):
            assert mine.window_size == other.window_size
            assert mine.attn.num_heads == other.attn.num_heads


@pytest.mark.parametrize(
    "how", ["safetensors", "half", "trainer", "state_dict", "net", "model_state_dict", "colours"]
)
def test_every_way_a_checkpoint_is_kept(sam, tmp_path, how):
    tensors, path = sam.state_dict(), tmp_path / f"{how}.pth"
    if how == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(tensors, path)
    elif how == "half":
        tensors = {key: t.half() for key, t in tensors.items()}
        torch.save(tensors, path)
    elif how == "trainer":
        state = {f"module.sam.{key}": t for key, t in tensors.items()}
        torch.save({"model": state, "optimizer": {"lr": 1.0}, "epoch": 3}, path)
    elif how == "colours":
        colours = {"pixel_mean": sam.pixel_mean, "pixel_std": sam.pixel_std}
        torch.save(tensors | colours, path)
    else:
        torch.save({how: tensors, "epoch": 3}, path)
    pixels, image = picture()
    expected = package_sam()
    expected.load_state_dict({key: t.float() for key, t in tensors.items()})
    ours = predict_masks(load_sam(path), image, **PROMPTS[0])
    assert_same(ours, reference(expected, pixels, **PROMPTS[0]))


def test_a_picture_is_embedded_once(path, monkeypatch):
    model = load_sam(path)
    seen = []
    encoder = model.patcher.model.sam.image_encoder
    encoder.register_forward_hook(lambda *_: seen.append(1))
    (_, first), (_, second) = picture(seed=1), picture(seed=2)
    answers = [predict_masks(model, first, **prompt) for prompt in PROMPTS]
    again = [predict_masks(model, first.clone(), **prompt) for prompt in PROMPTS]
    assert len(seen) == 1
    for one, other in zip(answers, again, strict=True):
        assert_same(one, other)
    predict_masks(model, second, **PROMPTS[0])
    predict_masks(model, first.transpose(0, 1), **PROMPTS[0])
    assert len(seen) == 3
    one_picture = next(iter(model.seen.values()))[0].nbytes
    monkeypatch.setattr(sams, "REMEMBERED_BYTES", 2 * one_picture)
    for n in range(3):
        predict_masks(model, picture(seed=10 + n)[1], **PROMPTS[0])
    assert len(model.seen) == 2
    predict_masks(model, picture(seed=12)[1], **PROMPTS[0])
    assert len(seen) == 6


@torch.inference_mode()
def unload_all():
    """As a server does it."""
    from comfy import model_management

    model_management.unload_all_models()


def test_the_host_loads_unloads_and_frees_it(path):
    from comfy import model_management

    model = load_sam(path)
    _, image = picture()
    before = predict_masks(model, image, **PROMPTS[0])
    loaded = [entry.model for entry in model_management.current_loaded_models]
    assert model.patcher in loaded
    unload_all()
    assert model.patcher not in [e.model for e in model_management.current_loaded_models]
    assert_same(predict_masks(model, image, **PROMPTS[0]), before)
    gone = weakref.ref(model.patcher.model)
    unload_all()
    del model, loaded
    gc.collect()
    assert gone() is None


def test_what_was_left_behind_is_brought_along(path, monkeypatch):
    """With --novram the host moves no layer that cannot cast."""
    model = load_sam(path)
    monkeypatch.setattr(sams.model_management, "load_models_gpu", lambda *_, **__: None)
    with torch.device("meta"):
        model.patcher.load_device = torch.empty(0).device
    monkeypatch.setattr(sams.hashlib, "sha256", lambda *_: pytest.fail("looked at the picture"))
    with pytest.raises(pytest.fail.Exception):
        predict_masks(model, picture()[1], **PROMPTS[0])
    assert {t.device.type for t in model.patcher.model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("folder", "pattern"), [("elite", "*.jpg"), ("dreambench", "*/00.jpg")], ids=str
)
def test_real_pictures_before_and_after_the_network(sam, model, folder, pattern):
    """The resized picture, the padded square and the way back to the picture's own size."""
    if not DATA.is_dir():
        pytest.skip(f"no pictures in {DATA}")
    paths = sorted((DATA / folder).glob(pattern))[:3]
    assert paths
    for one in paths:
        pixels = np.asarray(Image.open(one).convert("RGB"))
        height, width = pixels.shape[:2]
        prompt = {"points": [(width / 2, height / 2)], "labels": [1]}
        masks, quality = predict_masks(
            model, torch.from_numpy(pixels.astype(np.float32) / 255), **prompt
        )
        assert masks.shape == (3, height, width)
        assert_same((masks, quality), reference(sam, pixels, **prompt))


class Evil:
    def __reduce__(self):
        return print, ("this must never be printed",)


QUALITY = "mask_decoder.iou_prediction_head.layers"


def bad_files(folder, sam):
    tensors = sam.state_dict()
    whole = save_sam(folder / "whole.pth", sam).read_bytes()
    few = dict(list(tensors.items())[:-5])
    relatives = {
        "hq": tensors | {"mask_decoder.hf_token.weight": torch.zeros(1)},
        "mobile": {"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(1)},
        "second": {"model": {"image_encoder.trunk.pos_embed_window": torch.zeros(1)}},
        "third": {"detector.backbone.vision_backbone.trunk.pos_embed": torch.zeros(1)},
        "hub": {"vision_encoder.pos_embed": torch.zeros(1)},
    }
    wrong = tensors | {"mask_decoder.iou_token.weight": torch.zeros(1, 7)}
    for name, content in (
        ("evil", {"image_encoder.pos_embed": Evil()}),
        ("other", {"conv.weight": torch.zeros(3)}),
        ("list", [1, 2]),
        ("few", few),
        ("wrong", wrong),
        ("odd", {"image_encoder.pos_embed": torch.zeros(3)}),
        ("scalar", {"image_encoder.pos_embed": torch.tensor(1.0)}),
        ("many", tensors | {"mask_decoder.mask_tokens.weight": torch.zeros(10_001, 32)}),
        ("deep", tensors | {f"{QUALITY}.99999999.weight": torch.zeros(1)}),
        ("digits", tensors | {f"{QUALITY}.{'9' * 5_000}.weight": torch.zeros(1)}),
        ("fine", tensors | {"image_encoder.pos_embed": torch.zeros(1, 2000, 2000, 1)}),
        ("nan", tensors | {"mask_decoder.iou_token.weight": torch.full((1, 32), torch.nan)}),
        *relatives.items(),
    ):
        torch.save(content, folder / f"{name}.pth")
    (folder / "old.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "page.pth").write_text("<!DOCTYPE html><title>Sign in</title>")
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("evil.pth", "'evil.pth' was refused: it holds more than plain tensors.*Nothing in it"),
        ("old.pth", "'old.pth' was refused"),
        ("other.pth", "'other.pth' is no SAM: it holds conv.weight. Expected a checkpoint of Seg"),
        ("list.pth", "'list.pth' holds no dictionary of tensors"),
        ("few.pth", r"'few.pth' is no whole SAM \(.*Missing key"),
        ("wrong.pth", r"'wrong.pth' is no whole SAM \(.*size mismatch"),
        ("odd.pth", "'odd.pth' is no whole SAM"),
        ("hq.pth", "'hq.pth' is an HQ-SAM, which is not supported"),
        ("mobile.pth", "is a MobileSAM, which"),
        ("second.pth", "'second.pth' is no whole SAM|This ComfyUI's transformers has no SAM 2"),
        ("third.pth", "is a SAM 3, which ComfyUI has nodes of its own for"),
        ("page.pth", "'page.pth' is a web page that was saved under a file's name"),
        ("pointer.safetensors", "is a pointer of Git LFS.*download it"),
        ("hub.pth", "is a SAM under the names of transformers, which"),
        ("cut.pth", r"'cut.pth' cannot be read \(.*copy or download it again"),
        ("cut.safetensors", "'cut.safetensors' is no whole safetensors file"),
        ("scalar.pth", "'scalar.pth' is no whole SAM"),
        ("many.pth", r"'many.pth' is no whole SAM \(a candidates of 10000\)"),
        ("deep.pth", r"'deep.pth' is no whole SAM \(a quality_depth of 100000000\)"),
        ("digits.pth", "'digits.pth' is no whole SAM"),
        ("fine.pth", r"'fine.pth' is no whole SAM \(a side of 32000\)"),
        ("nan.pth", "'nan.pth' is no whole SAM .NaN or infinite numbers in mask_decoder.iou"),
        ("empty.pth", "'empty.pth' cannot be read"),
    ],
)
def test_files_that_are_no_sam(sam, tmp_path, name, says, capsys):
    bad_files(tmp_path, sam)
    with pytest.raises(ConceptFileError, match=says):
        load_sam(tmp_path / name)
    assert "never be printed" not in capsys.readouterr().out


def test_without_the_package_it_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "segment_anything", None)
    with pytest.raises(
        ConceptFileError, match="segment-anything is not installed.*requirements.*SAM 2"
    ):
        load_sam(path)
