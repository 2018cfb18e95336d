"""Files that people have, read alike: one picture in every layout, one mask in every layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from personalize.concepts.errors import PictureError
from personalize.pictures import files
from personalize.pictures.files import (
    has_own_mask,
    is_mask_name,
    list_pictures,
    own_mask,
    read_mask,
    read_picture,
)
from PIL import Image, ImageDraw, ImageOps, features

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here")
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")

WIDTH, HEIGHT = 40, 30
BOX = (6, 4, 18, 22)  # of the subject, not in the middle: left, top, right, bottom, all within
SKY, SKIN, HIDDEN = (200, 220, 250), (230, 40, 30), (10, 160, 20)
ORIENTATION = 0x0112
STORED = {  # how a camera that says so has stored an upright picture
    1: lambda image: image,
    2: ImageOps.mirror,
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: ImageOps.flip,
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


def drawing() -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT), SKY)
    ImageDraw.Draw(image).rectangle(BOX, SKIN)
    return image


def white_box(white=255, black=0, mode="L") -> Image.Image:
    image = Image.new(mode, (WIDTH, HEIGHT), black)
    ImageDraw.Draw(image).rectangle(BOX, white)
    return image


def inside() -> torch.Tensor:
    return torch.from_numpy(np.asarray(white_box()) > 0).float()


def turned(image, path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    STORED[orientation](image).save(path, exif=exif)
    return path


def upright(tmp_path, name="picture.png"):
    drawing().save(tmp_path / name)
    return read_picture(tmp_path / name)


def grey16(image, path):
    values = np.asarray(image.convert("L"), np.uint16) * 257
    Image.fromarray(values).save(path)


LAYOUTS = {
    "jpg": lambda image, path: image.save(path, quality=95, subsampling=0),
    "png": lambda image, path: image.save(path),
    "palette.png": lambda image, path: image.convert("P", palette=Image.Palette.ADAPTIVE).save(
        path
    ),
    "rgba.png": lambda image, path: image.convert("RGBA").save(path),
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path, quality=95, subsampling=0),
    "bmp": lambda image, path: image.save(path),
    "tga": lambda image, path: image.save(path),
    "webp": lambda image, path: image.save(path, lossless=True),
    "gif": lambda image, path: image.save(path, save_all=True, append_images=[image.rotate(90)]),
    "apng": lambda image, path: image.save(path, format="PNG", save_all=True,
                                            append_images=[image.rotate(90)]),
    "tiff": lambda image, path: image.save(path, save_all=True, append_images=[image.rotate(90)]),
    "mpo": lambda image, path: image.save(path, save_all=True, append_images=[image.rotate(90)],
                                           quality=95, subsampling=0),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_picture_in_every_layout(layout, tmp_path):
    path = tmp_path / f"picture.{layout}"
    LAYOUTS[layout](drawing(), path)
    read = read_picture(path)
    assert read.size == (HEIGHT, WIDTH) and read.opacity is None
    assert read.pixels.dtype == torch.float32
    expected = torch.from_numpy(np.asarray(drawing()).copy()) / 255
    assert (read.pixels - expected).abs().max() < 0.08
    assert read.frames == (2 if layout in ("gif", "apng", "tiff", "mpo") else 1)


@pytest.mark.parametrize("save", [grey16, lambda image, path: image.convert("L").save(path),
                                  lambda image, path: image.convert("LA").save(path)])  # fmt: skip
def test_grey_pictures_keep_their_shades(save, tmp_path):
    save(drawing(), tmp_path / "a.png")
    expected = torch.from_numpy(np.asarray(drawing().convert("L")).copy()) / 255
    assert torch.allclose(read_picture(tmp_path / "a.png").pixels, expected[..., None], atol=1e-3)


def test_whole_and_real_numbers_are_scaled_by_the_likeliest_range(tmp_path):
    for mode, dtype, white in (("I", np.int32, 65535), ("I", np.int32, 255), ("F", np.float32, 1)):
        values = (np.asarray(white_box(1)) * np.float64(white)).astype(dtype)
        Image.fromarray(values, mode).save(tmp_path / "a.tiff")
        assert torch.equal(read_picture(tmp_path / "a.tiff").pixels[..., 0], inside())
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(PictureError, match="holds NaN or infinite"):
        read_picture(tmp_path / "a.tiff")


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_pictures_are_turned_as_their_camera_says(orientation, ending, tmp_path):
    read = read_picture(turned(drawing(), tmp_path / f"a.{ending}", orientation))
    expected = torch.from_numpy(np.asarray(drawing()).copy()) / 255
    assert torch.equal(read.pixels, expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    drawing().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xffrubbish")
    assert read_picture(tmp_path / "a.jpg").size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("hidden", [(0, 0, 0), HIDDEN, (255, 255, 255)])
def test_hidden_colours_of_a_cut_out_become_white_and_its_alpha_a_mask(hidden, tmp_path):
    cut_out = Image.composite(drawing(), Image.new("RGB", (WIDTH, HEIGHT), hidden), white_box())
    cut_out.putalpha(white_box())
    cut_out.save(tmp_path / "a.png")
    read = read_picture(tmp_path / "a.png")
    assert (read.pixels[inside() == 0] == 1).all()
    assert torch.allclose(read.pixels[inside() == 1], torch.tensor(SKIN) / 255)
    assert torch.equal(own_mask(read), inside()) and has_own_mask(tmp_path / "a.png")


def test_a_transparent_colour_of_a_palette_is_transparent(tmp_path):
    image = drawing().convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    read = read_picture(tmp_path / "a.png")
    assert torch.equal(own_mask(read), inside()) and (read.pixels[inside() == 0] == 1).all()


def test_no_mask_of_its_own(tmp_path):
    assert own_mask(upright(tmp_path)) is None
    assert not has_own_mask(tmp_path / "picture.png")
    assert not has_own_mask(tmp_path / "nowhere.png")
    drawing().convert("RGBA").save(tmp_path / "opaque.png")
    assert own_mask(read_picture(tmp_path / "opaque.png")) is None


def labels(number=1, void=0):
    image = white_box(number)
    if void:
        ImageDraw.Draw(image).rectangle(BOX, outline=void)
    return image


def voc(void=False):
    """Indices into the palette of PASCAL VOC: 8 is a cat, dark red, and 255 void, nearly white."""
    image = labels(8, 255 if void else 0).convert("P")
    palette = [0] * 768
    palette[24:27], palette[765:768] = (64, 0, 0), (224, 224, 192)
    image.putpalette(palette)
    return image


def in_alpha(colour):
    image = Image.new("RGB", (WIDTH, HEIGHT), colour)
    image.putalpha(white_box())
    return image


def grey_noise():
    noise = np.random.default_rng(0).integers(0, 20, (HEIGHT, WIDTH))
    return Image.fromarray(np.where(np.asarray(white_box()) > 0, 250 - noise, noise).astype("u1"))


MASKS = {
    "L": white_box,
    "1 bit": lambda: white_box().convert("1"),
    "RGB": lambda: white_box().convert("RGB"),
    "RGBA, opaque": lambda: white_box().convert("RGBA"),
    "shades": lambda: white_box(255, 78),
    "noise": grey_noise,
    "16 bit": lambda: Image.fromarray(np.where(np.asarray(white_box()) > 0, 65535, 20000)
                                      .astype(np.uint16)),
    "labels": labels,
    "label 17": lambda: labels(17),
    "labels of 16 bit": lambda: Image.fromarray(np.asarray(labels(3), np.uint16)),
    "VOC": voc,
    "grey palette, white first": lambda: white_box(0, 1).convert("P"),
    "alpha, white": lambda: in_alpha((255, 255, 255)),
    "alpha, black": lambda: in_alpha((0, 0, 0)),
    "grey and alpha": lambda: in_alpha((255, 255, 255)).convert("LA"),
    "red on black": lambda: white_box((255, 0, 0), (0, 0, 0), "RGB"),
}  # fmt: skip


@pytest.mark.parametrize("layout", MASKS)
def test_one_mask_in_every_layout(layout, tmp_path):
    mask = MASKS[layout]()
    if layout == "grey palette, white first":
        mask.putpalette([255] * 3 + [0] * 3)
    mask.save(tmp_path / "mask.png")
    read = read_mask(tmp_path / "mask.png", upright(tmp_path))
    assert read.dtype == torch.float32 and torch.equal(read, inside())


@pytest.mark.parametrize("mask", [lambda: voc(void=True), lambda: labels(2, void=255)])
def test_void_around_a_label_is_not_the_subject(mask, tmp_path):
    mask().save(tmp_path / "mask.png")
    left, top, right, bottom = BOX
    expected = torch.zeros(HEIGHT, WIDTH)
    expected[top + 1 : bottom, left + 1 : right] = 1
    assert torch.equal(read_mask(tmp_path / "mask.png", upright(tmp_path)), expected)


def test_colours_of_a_photograph_are_told_by_their_brightness(tmp_path):
    white_box().convert("RGB").save(tmp_path / "mask.jpg", quality=60)
    read = read_mask(tmp_path / "mask.jpg", upright(tmp_path))
    assert (read - inside()).abs().mean() < 0.05


@pytest.mark.parametrize("orientation", STORED)
def test_a_mask_is_turned_by_its_own_exif(orientation, tmp_path):
    path = turned(white_box(), tmp_path / "mask.png", orientation)
    assert torch.equal(read_mask(path, upright(tmp_path)), inside())


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_made_of_the_stored_pixels_is_turned_with_its_picture(orientation, tmp_path):
    """Tools that overlook EXIF draw masks as the sensor saw the picture, lying on its side."""
    picture = read_picture(turned(drawing(), tmp_path / "a.png", orientation))
    STORED[orientation](white_box()).save(tmp_path / "mask.png")
    assert torch.equal(read_mask(tmp_path / "mask.png", picture), inside())


def test_a_mask_of_another_size_is_fitted_and_one_of_another_shape_refused(tmp_path):
    picture = upright(tmp_path)
    white_box().resize((4 * WIDTH, 4 * HEIGHT), Image.Resampling.NEAREST).save(tmp_path / "m.png")
    assert torch.equal(read_mask(tmp_path / "m.png", picture), inside())
    for size in ((HEIGHT, WIDTH), (64, 64), (WIDTH, 2 * HEIGHT)):
        Image.new("L", size, 255).save(tmp_path / "m.png")
        told = f"mask m.png has {size[0]}x{size[1]} pixels.*picture.png has 40x30.*another shape"
        with pytest.raises(PictureError, match=told):
            read_mask(tmp_path / "m.png", picture)


@pytest.mark.parametrize("mask", [Image.new("L", (WIDTH, HEIGHT)), Image.new("1", (4, 3)),
                                  Image.new("RGBA", (WIDTH, HEIGHT))])  # fmt: skip
def test_an_empty_mask(mask, tmp_path):
    mask.save(tmp_path / "m.png")
    with pytest.raises(PictureError, match="mask m.png is empty: nothing in it is white"):
        read_mask(tmp_path / "m.png", upright(tmp_path))


def test_a_dark_picture_is_no_table_of_labels(tmp_path):
    """Shades below one half are no subject; read as labels they would all be one."""
    shades = np.tile(np.arange(0, 100, 100 / WIDTH), (HEIGHT, 1)).astype("u1")
    Image.fromarray(shades).save(tmp_path / "m.png")
    with pytest.raises(PictureError, match="is empty"):
        read_mask(tmp_path / "m.png", upright(tmp_path))


def bomb(path, monkeypatch):
    monkeypatch.setattr(files, "MOST_PIXELS", 100)
    drawing().save(path)


def pillows_bomb(path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    drawing().save(path)


def cut_off(path, _):
    drawing().resize((400, 300)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


BROKEN = {
    "bomb": (bomb, "has 40x30 pixels, more than .* million. Make a smaller copy"),
    "Pillow's bomb": (pillows_bomb, "cannot be read: Image size .* exceeds limit"),
    "cut off": (cut_off, "cannot be read: .*truncated.*save it as .png"),
    "text": (
        lambda path, _: path.write_bytes(b"no picture"),
        "cannot be read: no picture of",
    ),
    "nothing": (lambda path, _: path.write_bytes(b""), "cannot be read"),
    "missing": (lambda path, _: None, "cannot be read"),
    "PostScript": (
        lambda path, _: drawing().save(path, "EPS"),
        "cannot be read: no picture of",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_broken_files_are_told_whatever_pillow_raises(kind, tmp_path, monkeypatch):
    picture = upright(tmp_path)
    make, told = BROKEN[kind]
    make(tmp_path / "broken.png", monkeypatch)
    for read in (read_picture, lambda path: read_mask(path, picture)):
        with pytest.raises(PictureError, match=f"broken.png {told}"):
            read(tmp_path / "broken.png")


def test_a_file_of_one_pixel(tmp_path):
    Image.new("L", (1, 1), 51).save(tmp_path / "a.png")
    assert torch.allclose(read_picture(tmp_path / "a.png").pixels, torch.full((1, 1, 3), 0.2))


def test_a_folder_and_its_masks(tmp_path):
    (tmp_path / "Masks").mkdir()
    for name in ("a.jpg", "a_mask.png", "a_bg.png", "b.PNG", "B_BG.png", "c.webp", "Masks/c.png",
                 "d.jpg", "Masks/d_mask.webp", "Masks/a.png", "e.gif", "lonely_mask.png",
                 "f.heic", "f.txt", ".hidden", "g.jpeg", "g_mask.jpg"):  # fmt: skip
        (tmp_path / name).touch()
    listing = list_pictures(tmp_path)
    assert [p.name for p in listing.pictures] == [
        "a.jpg", "b.PNG", "c.webp", "d.jpg", "e.gif", "g.jpeg"
    ]  # fmt: skip
    masks = {p.name: str(mask.relative_to(tmp_path)) for p, mask in listing.masks.items()}
    assert masks == {
        "a.jpg": "a_mask.png", "b.PNG": "B_BG.png", "c.webp": str(Path("Masks", "c.png")),
        "d.jpg": str(Path("Masks", "d_mask.webp")), "g.jpeg": "g_mask.jpg",
    }  # fmt: skip
    assert listing.left_out.startswith("Left out: a_bg.png, f.heic, lonely_mask.png. What is no")
    assert is_mask_name(Path("1_BG.png")) and not is_mask_name(Path("background.png"))


def test_a_folder_with_nothing_beside_its_pictures(tmp_path):
    drawing().save(tmp_path / "a.png")
    assert list_pictures(tmp_path) == files.PictureListing([tmp_path / "a.png"], {}, "")


ONE_DRAWING = [
    *("anim.gif", "anim.png", "anim.webp", "cmyk.jpg", "iphone_mpo.jpg", "mpo.mpo", "multi.tiff"),
    *("palette.png", "plain.png", pytest.param("avif.avif", marks=needs_avif)),
]


@needs_cases
@pytest.mark.parametrize("name", ONE_DRAWING)
def test_published_layouts_show_one_picture(name):
    plain = read_picture(CASES / "pictures" / "plain.png")
    read = read_picture(CASES / "pictures" / name)
    assert read.size == plain.size and (read.pixels - plain.pixels).abs().mean() < 0.02


@needs_cases
@pytest.mark.parametrize("name", ["gray16.png", "gray8.jpg", "la.png"])
def test_published_grey_layouts_show_its_shades(name):
    plain = read_picture(CASES / "pictures" / "plain.png").pixels
    grey = plain @ torch.tensor([0.299, 0.587, 0.114])
    assert (read_picture(CASES / "pictures" / name).pixels[..., 0] - grey).abs().mean() < 0.01


@needs_cases
@pytest.mark.parametrize("path", sorted((CASES / "masks").glob("*.png")), ids=lambda p: p.name)
def test_published_masks_mark_one_part_of_their_picture(path):
    exif = "exif" in path.name
    picture = read_picture(CASES / "pictures" / ("exif6.png" if exif else "plain.png"))
    plain = read_picture(CASES / "pictures" / "plain.png")
    expected = read_mask(CASES / "masks" / "mL.png", plain)
    read = read_mask(path, picture)
    assert torch.equal(read.rot90(1) if exif else read, expected)
    assert 0.17 < read.mean() < 0.19


@needs_cases
def test_published_cut_outs_have_one_subject():
    cut_outs = [read_picture(CASES / "pictures" / f"cutout{n}.png") for n in ("", "_black")]
    assert torch.equal(cut_outs[0].pixels, cut_outs[1].pixels)
    mask = read_mask(CASES / "masks" / "mL.png", cut_outs[0])
    assert torch.equal(own_mask(cut_outs[0]), mask)


@needs_cases
def test_a_published_file_that_is_cut_off():
    with pytest.raises(PictureError, match="truncated.jpg cannot be read: image file is truncated"):
        read_picture(CASES / "pictures" / "truncated.jpg")
