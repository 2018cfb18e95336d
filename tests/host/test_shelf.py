"""The shelf of saved concepts: what it lists, and that no name leads out of its folders."""

import multiprocessing
import os
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import folder_paths
import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.cards import card_of
from personalize.concepts.concept import Concept
from personalize.concepts.errors import ConceptFileError, DiskError, NameTakenError
from personalize.concepts.files import load_concept, save_concept
from personalize.host import shelf as shelf_module
from personalize.host import trash as trash_module
from personalize.host.card_pictures import contact_sheet, is_taken, write_pictures
from personalize.host.folders import concept_names, save_new
from personalize.host.sharing import card_text, shared_file
from personalize.host.shelf import (
    is_taken_on_shelf,
    known_path,
    picture_of,
    rename,
    shelf,
    to_trash,
)
from personalize.host.trash import restore, trash
from personalize.tests.windows_disk import WindowsDisk
from PIL import Image
from safetensors.torch import save_file

pytestmark = pytest.mark.host

ODD = "<img src=x onerror=alert(1)>"


def concept(placeholder="<my-dog>", pictures=None):
    words = {"": torch.ones(2, 64)}
    return Concept(
        methods.CROSS_INIT, "sd1", 64, placeholder, class_word="dog", words=words, pictures=pictures
    )


def squares(count, side=16):
    shades = torch.arange(count, dtype=torch.uint8) * 20
    return shades.view(-1, 1, 1, 1).expand(count, side, side, 3).contiguous()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two empty concepts folders, models and output, and nothing else to find."""
    found = [tmp_path / "models" / "concepts", tmp_path / "output" / "concepts"]
    for folder in found:
        folder.mkdir(parents=True)
    known = {"concepts": ([str(f) for f in found], {".safetensors", ".pt", ".bin"})}
    monkeypatch.setattr(
        folder_paths, "folder_names_and_paths", {**folder_paths.folder_names_and_paths, **known}
    )
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return found


@pytest.fixture
def output(folders):
    return folders[1]


def put(folder, name="my-dog.safetensors", pictures=2, **changes):
    path = folder / name
    save_concept(concept(**changes), path)
    write_pictures(path, None, squares(pictures) if pictures else None)
    return path


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def test_an_empty_shelf(folders):
    assert shelf() == []


def test_what_is_listed(folders):
    put(folders[0], pictures=0)
    put(folders[1], "pets/rex.safetensors", placeholder="<rex>")
    entries = {entry["name"]: entry for entry in shelf()}
    assert list(entries) == ["my-dog.safetensors", str(Path("pets", "rex.safetensors"))]
    dog, rex = entries.values()
    assert dog["card"]["write"] == "<my-dog> dog" and dog["problem"] == ""
    assert dog["thumbnail"] == dog["sheet"] == 0
    assert rex["card"]["placeholder"] == "<rex>"
    assert rex["thumbnail"] > 0 and rex["sheet"] > 0 and rex["changed"] > 0


def test_a_damaged_file_is_listed_with_its_problem(output):
    (output / "damaged.safetensors").write_bytes(b"oh no")
    (entry,) = shelf()
    assert entry["card"] is None and "is no whole safetensors file" in entry["problem"]


OURS = {"format": "personalize/1", "method": "detex", "base": "sd1", "text_width": "64"}
READABLE = {"my-dog", "ours-1", "ours-2", "number", "float8"}
DEEP = '{"a":' * 100_000


def write_odd_files(folder):
    """Files as no program of good will writes them, one kind each."""
    word = {"word": torch.ones(1, 64)}
    for number, changes in enumerate(
        (
            {},
            {"placeholder": "<me>", "training": DEEP},
            {"placeholder": "<me>", "training": f'{{"steps": {"9" * 10_000}}}'},
            {"placeholder": "<me>", "text_width": "9" * 5_000},
            {"placeholder": "<me>", "base": "\x00"},
        )
    ):
        save_file(word, folder / f"ours-{number}.safetensors", {**OURS, **changes})
    save_file({f"a_v{'9' * 5_000}": torch.ones(768)}, folder / "number.safetensors")
    save_file({"*": torch.ones(768).to(torch.float8_e4m3fn)}, folder / "float8.safetensors")
    save_file({"*": torch.tensor(1.0)}, folder / "scalar.safetensors")
    tensors = {
        "meta": torch.ones(768, device="meta"),
        "nested": torch.nested.nested_tensor([torch.ones(768)]),
        "sparse": torch.eye(768).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.ones(768), 1.0, 0, torch.qint8),
        "module": torch.nn.Identity(),
    }
    for name, content in tensors.items():
        torch.save({"*": content}, folder / f"{name}.pt")
    for number, content in enumerate((b"", b"\xff" * 100, b"PK\x03\x04", b"\x80\x02((((")):
        for suffix in (".safetensors", ".bin"):
            (folder / f"bytes-{number}{suffix}").write_bytes(content)


def test_no_file_hides_the_others(output):
    put(output)
    write_odd_files(output)
    entries = {entry["name"]: entry for entry in shelf()}
    assert len(entries) == len(list(output.iterdir())) - 2  # pictures of my-dog
    assert entries["my-dog.safetensors"]["card"]
    read = {name for name, entry in entries.items() if entry["card"]}
    assert {name.removesuffix(".safetensors") for name in read} == READABLE
    assert all(entries[name]["problem"].endswith(".") for name in entries.keys() - read)


def test_an_error_that_nobody_foresaw_is_told_on_its_card(output, monkeypatch):
    def fail(path, name):
        raise KeyError("unforeseen")

    monkeypatch.setattr(shelf_module, "read_card", fail)
    put(output)
    (entry,) = shelf()
    assert entry["problem"] == "'my-dog.safetensors' cannot be read (KeyError: 'unforeseen')."


def test_a_name_too_long_for_a_picture_beside_it(output):
    name = f"{'x' * 240}.safetensors"
    save_concept(concept(), output / "short.safetensors")
    (output / "short.safetensors").rename(output / name)
    (entry,) = shelf()
    assert entry["card"]["placeholder"] == "<my-dog>" and entry["sheet"] == 0


def test_an_unchanged_file_is_read_once(output, monkeypatch):
    read = []
    stock = shelf_module.read_card
    monkeypatch.setattr(shelf_module, "read_card", lambda *a: read.append(a) or stock(*a))
    path = put(output)
    shelf()
    shelf()
    assert len(read) == 1
    save_concept(concept("<changed-name>"), path)
    assert shelf()[0]["card"]["placeholder"] == "<changed-name>" and len(read) == 2


NOT_LISTED = [
    *("", ".", "..", "gone.safetensors", "my-dog", "MY-DOG.safetensors", "./my-dog.safetensors"),
    *("../output/concepts/my-dog.safetensors", "/etc/passwd", "..\\my-dog.safetensors", "a\x00b"),
    *("C:\\my-dog.safetensors", "my-dog.webp", ".trash/old.safetensors", "secret.safetensors"),
    *("../secret.safetensors", "pets/../my-dog.safetensors", "file:///etc/passwd", "%2e%2e/x"),
]


@pytest.mark.parametrize("name", NOT_LISTED)
def test_a_name_that_is_not_listed_means_nothing(name, output, tmp_path):
    put(output)
    put(output, ".trash/old.safetensors")
    put(tmp_path, "output/secret.safetensors")
    before = files(tmp_path)
    for act in (known_path, to_trash, lambda n: rename(n, "new"), lambda n: picture_of(n, "sheet")):
        with pytest.raises(ConceptFileError, match=r"There is no concept .* Refresh the list"):
            act(name)
    assert files(tmp_path) == before


@pytest.mark.parametrize("wanted", ["rex", "rex.safetensors", "pets/rex", " rex ", "犬 v1.5"])
def test_rename_takes_the_pictures_along(wanted, output):
    path = put(output)
    content = path.read_bytes()
    name = rename("my-dog.safetensors", wanted)
    stem = wanted.strip().removesuffix(".safetensors")
    assert name == str(Path(f"{stem}.safetensors"))
    kept = [f"{stem}{suffix}" for suffix in (".pictures.webp", ".safetensors", ".webp")]
    assert files(output) == sorted(str(Path(k)) for k in kept)
    assert (output / name).read_bytes() == content
    assert [entry["name"] for entry in shelf()] == [name]


@pytest.mark.parametrize(
    "wanted", ["", "..", "../evil", "/tmp/evil", "C:\\evil", "a/../../evil", ".trash/x", ODD, "NUL"]
)
def test_rename_refuses_names_that_lead_out_or_that_a_system_refuses(wanted, output, tmp_path):
    put(output)
    before = files(tmp_path)
    with pytest.raises(ConceptFileError, match="is no file name"):
        rename("my-dog.safetensors", wanted)
    assert files(tmp_path) == before


def test_rename_overwrites_nothing(output):
    put(output)
    content = put(output, "taken.safetensors", placeholder="<taken>").read_bytes()
    with pytest.raises(NameTakenError, match="There is a file or a picture 'taken' already"):
        rename("my-dog.safetensors", "taken")
    assert (output / "taken.safetensors").read_bytes() == content
    assert rename("my-dog.safetensors", "my-dog") == "my-dog.safetensors"


def test_of_two_files_of_one_name_one_is_hidden_and_no_more_come(folders):
    """A file that was given lies in models/concepts, which the host looks into first."""
    given, own = put(folders[0], placeholder="<given>"), put(folders[1])
    put(folders[1], "rex.safetensors", placeholder="<rex>")
    entries = {entry["name"]: entry for entry in shelf()}
    assert entries[given.name]["card"]["placeholder"] == "<given>"
    assert entries[given.name]["hides"] == str(own) and not entries["rex.safetensors"]["hides"]
    with pytest.raises(NameTakenError, match="Choose another name"):
        rename("rex.safetensors", "my-dog")
    to_trash(given.name)
    to_trash(own.name)
    assert restore(own.name) == "my-dog.safetensors"
    assert restore(own.name) == "my-dog-2.safetensors"
    assert not any(entry["hides"] for entry in shelf())
    taken = partial(is_taken_on_shelf, folder=folders[1])
    again = save_new(folders[1], "my-dog", partial(save_concept, concept()), is_taken=taken)
    assert again.name == "my-dog-3.safetensors"


def test_rename_keeps_the_kind_of_file(output):
    torch.save({"<dog>": torch.ones(768)}, output / "dog.bin")
    assert rename("dog.bin", "rex") == "rex.bin"
    assert load_concept(output / "rex.bin").placeholder == "<dog>"


def test_pictures_that_two_files_share_stay(output):
    put(output)
    torch.save({"<dog>": torch.ones(768)}, output / "my-dog.bin")
    rename("my-dog.bin", "rex")
    assert {"my-dog.webp", "my-dog.pictures.webp", "rex.bin"} <= set(files(output))
    assert "rex.webp" not in files(output)


def test_the_trash_keeps_everything_and_is_not_listed(folders):
    for folder in folders:
        put(folder, "pets/rex.safetensors")
        content = (folder / "pets" / "rex.safetensors").read_bytes()
        place = to_trash(str(Path("pets", "rex.safetensors")))
        assert place == folder / ".trash" / "pets" / "rex.safetensors"
        assert place.read_bytes() == content
        names = ("rex.pictures.webp", "rex.safetensors", "rex.webp")
        assert files(folder) == [str(Path(".trash", "pets", name)) for name in names]
    assert shelf() == []
    assert not [name for name in concept_names() if "rex" in name]


def test_the_trash_overwrites_nothing(output):
    for _ in range(2):
        put(output, pictures=1)
        to_trash("my-dog.safetensors")
    kept = [f for f in files(output) if f.endswith(".safetensors")]
    assert [Path(k).name for k in kept] == ["my-dog-2.safetensors", "my-dog.safetensors"]


def test_what_was_deleted_is_listed_and_put_back(folders):
    put(folders[1], "pets/rex.safetensors", placeholder="<rex>")
    put(folders[0])
    before = files(folders[1])
    rex = str(Path("pets", "rex.safetensors"))
    to_trash(rex)
    to_trash("my-dog.safetensors")
    assert {entry["name"] for entry in trash()} == {rex, "my-dog.safetensors"}
    assert all(entry["changed"] > 0 for entry in trash())
    assert restore(rex) == rex
    assert files(folders[1]) == before
    assert [entry["name"] for entry in trash()] == ["my-dog.safetensors"]
    assert restore("my-dog.safetensors") == "my-dog.safetensors" and not trash()


def test_what_was_deleted_last_is_listed_first(monkeypatch):
    class File:
        def __init__(self, milliseconds):
            self.milliseconds = milliseconds

        def lstat(self):
            if not self.milliseconds:
                raise FileNotFoundError
            return SimpleNamespace(st_ctime_ns=self.milliseconds * 10**6 + 999_999)

    listed = {"old": File(5), "new": File(9), "gone meanwhile": File(0), "between": File(7)}
    monkeypatch.setattr(trash_module, "_files", lambda: listed)
    assert trash() == [
        {"name": "new", "changed": 9}, {"name": "between", "changed": 7},
        {"name": "old", "changed": 5},
    ]  # fmt: skip


def test_nothing_behind_a_link_is_listed_as_deleted(folders, tmp_path, link):
    for folder in folders:
        put(folder)
        to_trash("my-dog.safetensors")
    put(tmp_path / "outside", "far.safetensors")
    link(folders[0] / ".trash" / "linked", tmp_path / "outside")
    (folders[1] / ".trash").rename(tmp_path / "trash of old")
    link(folders[1] / ".trash", tmp_path / "outside")
    assert [entry["name"] for entry in trash()] == ["my-dog.safetensors"]


def test_the_time_of_a_deletion_where_a_move_leaves_none(output, monkeypatch):
    """On Windows, where a file knows when it was made, and not when it was moved."""
    monkeypatch.setattr(shelf_module, "_MOVES_LEAVE_NO_TIME", True)
    path = put(output)
    os.utime(path, (1000, 2000))
    place = to_trash("my-dog.safetensors")
    (entry,) = trash()
    assert entry["changed"] > 10**12 and place.stat().st_mtime == 2000


def test_what_is_put_back_overwrites_nothing(output):
    put(output)
    to_trash("my-dog.safetensors")
    put(output, placeholder="<other>")
    assert restore("my-dog.safetensors") == "my-dog-2.safetensors"
    cards = {entry["name"]: entry["card"]["placeholder"] for entry in shelf()}
    assert cards == {"my-dog.safetensors": "<other>", "my-dog-2.safetensors": "<my-dog>"}


@pytest.mark.parametrize("name", ["", "my-dog.safetensors", "../my-dog.safetensors", "/etc/passwd"])
def test_a_name_that_is_not_in_the_trash_means_nothing(name, output):
    put(output)
    with pytest.raises(ConceptFileError, match="in the trash"):
        restore(name)


def test_nothing_is_put_back_behind_a_link(output, tmp_path, link):
    put(output, "pets/rex.safetensors")
    to_trash(str(Path("pets", "rex.safetensors")))
    (output / "pets").rmdir()
    (tmp_path / "outside").mkdir()
    link(output / "pets", tmp_path / "outside")
    with pytest.raises(ConceptFileError, match="leads out of"):
        restore(str(Path("pets", "rex.safetensors")))
    assert files(tmp_path / "outside") == []


def test_a_shared_file_holds_the_concept_and_its_card_and_no_training_pictures(output, host_base):
    path = put(output)
    file = shared_file("my-dog.safetensors")
    assert file.is_relative_to(host_base / "temp")
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["my-dog.safetensors", "my-dog.txt", "my-dog.webp"]
        assert archive.read("my-dog.safetensors") == path.read_bytes()
        card = archive.read("my-dog.txt").decode()
    assert "Write in a prompt: <my-dog> dog" in card and "Stable Diffusion 1.x" in card
    (output / "odd.safetensors").write_bytes(b"secret")
    with pytest.raises(ConceptFileError):
        shared_file("odd.safetensors")


def test_a_shared_card_is_the_whole_card():
    words = {"": torch.ones(2, 64), "pose1": torch.ones(1, 64)}
    made = replace(concept(), training={"steps_taken": 25}, words=words)
    known, learned = card_text(card_of(made)).split("\n\n")
    assert known.splitlines() == [
        "Method: Cross Initialization",
        "Base model: Stable Diffusion 1.x",
        "Write in a prompt: <my-dog> dog  <my-dog:pose1>",
        "Class word: dog",
        "Steps: 25",
    ]
    assert "models/concepts" in learned and learned.endswith("\n")
    unnamed = card_text(card_of(replace(made, class_word="", training={})))
    assert "Class word" not in unnamed and "Steps" not in unnamed


@pytest.fixture
def link(tmp_path):
    def make(place, target):
        try:
            place.symlink_to(target, target_is_directory=target.is_dir())
        except OSError:
            pytest.skip("this system makes no links")

    return make


def test_nothing_behind_a_link_to_another_folder_is_changed_or_sent(output, tmp_path, link):
    outside = tmp_path / "outside"
    put(outside, "far.safetensors")
    link(output / "linked", outside)
    name = str(Path("linked", "far.safetensors"))
    assert [entry["name"] for entry in shelf()] == [name]
    before = files(tmp_path)
    sent = [shared_file, lambda n: picture_of(n, "thumbnail")]
    for act in (to_trash, lambda n: rename(n, "near"), *sent):
        with pytest.raises(ConceptFileError, match="outside of the concepts folders: a link leads"):
            act(name)
    put(output)
    with pytest.raises(ConceptFileError, match="leads out of"):
        rename("my-dog.safetensors", "linked/my-dog")
    assert set(files(tmp_path)) - set(before) == {
        str(Path("output", "concepts", f"my-dog{s}"))
        for s in (".safetensors", ".webp", ".pictures.webp")
    }


def test_a_linked_file_is_moved_as_a_link(output, tmp_path, link):
    far = put(tmp_path / "big disk", "far.safetensors", pictures=0)
    link(output / "near.safetensors", far)
    rename("near.safetensors", "nearer")
    to_trash("nearer.safetensors")
    assert far.is_file()
    assert files(output) == [str(Path(".trash", "nearer.safetensors"))]


def test_a_linked_picture_is_not_sent(output, tmp_path, link):
    put(output, pictures=0)
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    link(output / "my-dog.png", secret)
    assert picture_of("my-dog.safetensors", "thumbnail") is None


def test_a_trash_that_leads_out_is_refused(output, tmp_path, link):
    put(output)
    (tmp_path / "outside").mkdir()
    link(output / ".trash", tmp_path / "outside")
    with pytest.raises(ConceptFileError, match="leads out of"):
        to_trash("my-dog.safetensors")
    assert files(tmp_path / "outside") == []


def test_the_folder_itself_may_be_a_link(folders, tmp_path, link):
    big = tmp_path / "big disk"
    big.mkdir()
    folders[1].rmdir()
    link(folders[1], big)
    put(folders[1])
    assert rename("my-dog.safetensors", "rex") == "rex.safetensors"
    to_trash("rex.safetensors")
    assert files(big)[0].startswith(".trash")


def test_pictures(output):
    path = put(output, pictures=5)
    assert picture_of(path.name, "thumbnail") == output / "my-dog.webp"
    assert picture_of(path.name, "sheet") == output / "my-dog.pictures.webp"
    assert picture_of(path.name, "../secret") is None
    with Image.open(output / "my-dog.pictures.webp") as sheet:
        assert sheet.size == (16 * 3 + 8, 16 * 2 + 4)


def test_a_preview_becomes_the_thumbnail(tmp_path):
    path = tmp_path / "a.safetensors"
    preview = torch.zeros(2, 300, 600, 3)
    preview[0, ..., 0] = 1.0
    write_pictures(path, preview, None)
    assert files(tmp_path) == ["a.webp"]
    with Image.open(tmp_path / "a.webp") as thumbnail:
        assert thumbnail.size == (256, 128)
        red, green, blue = thumbnail.convert("RGB").getpixel((100, 60))
    assert red > 240 and green < 15 and blue < 15


def test_no_pictures_no_files(tmp_path):
    write_pictures(tmp_path / "a.safetensors", None, None)
    assert files(tmp_path) == []


@pytest.mark.parametrize(("count", "size"), [(1, (16, 16)), (2, (36, 16)), (4, (56, 36))])
def test_a_contact_sheet_is_no_larger_than_it_must_be(count, size):
    assert contact_sheet(squares(count)).size == size


def test_a_picture_of_another_program_is_found(output):
    path = put(output, pictures=0)
    Image.new("RGB", (8, 8)).save(output / "my-dog.preview.png")
    assert picture_of(path.name, "thumbnail") == output / "my-dog.preview.png"


def test_a_taken_picture_is_a_taken_name(output):
    """Also a picture that nobody knows, and a sheet that would become a thumbnail."""
    path = put(output, "c0.safetensors")
    put(output, "other.safetensors")
    Image.new("RGB", (8, 8)).save(output / "mine.png")
    torch.save({"<cat>": torch.ones(768)}, output / "cat.pt")
    before = {name: (output / name).read_bytes() for name in files(output)}
    for wanted in ("mine", "c0.pictures", "c0", "cat"):
        with pytest.raises(NameTakenError, match=f"a file or a picture '{wanted}' already"):
            rename("other.safetensors", wanted)
    for wanted in ("mine", "c0.pictures", "c0", "cat"):
        save = partial(save_concept, concept(), new=True)
        new = save_new(output, wanted, save, is_taken=is_taken)
        assert new.name == f"{wanted}-2.safetensors"
        write_pictures(new, None, squares(1))
    assert all((output / name).read_bytes() == content for name, content in before.items())
    to_trash("c0.safetensors")
    assert not path.with_suffix(".pictures.webp").exists()


def test_a_picture_belongs_to_the_shorter_name(output):
    """`c0.pictures.webp` is the sheet of c0, whatever else is called so."""
    put(output, "c0.safetensors")
    save_concept(concept("<odd>"), output / "c0.pictures.safetensors")
    entries = {entry["name"]: entry for entry in shelf()}
    assert entries["c0.safetensors"]["sheet"] > 0
    assert entries["c0.pictures.safetensors"]["thumbnail"] == 0
    rename("c0.pictures.safetensors", "odd")
    assert {"c0.pictures.webp", "c0.webp", "odd.safetensors"} <= set(files(output))
    to_trash("c0.safetensors")
    assert files(output)[-1:] == ["odd.safetensors"]


def test_a_move_that_fails_is_taken_back(output, monkeypatch):
    """The picture's new name was taken by another program meanwhile."""
    put(output)
    monkeypatch.setattr(shelf_module, "is_taken", lambda path: False)
    (output / "rex.webp").write_bytes(b"another's")
    before = files(output)
    with pytest.raises(NameTakenError):
        rename("my-dog.safetensors", "rex")
    assert files(output) == before
    assert (output / "rex.webp").read_bytes() == b"another's"


@pytest.mark.skipif(sys.platform != "linux", reason="plays Windows on Linux")
def test_on_windows(output, tmp_path, monkeypatch):
    put(output)
    put(output, "used.safetensors")
    before = files(output)
    windows = WindowsDisk(tmp_path, monkeypatch)
    for in_use in ("used.safetensors", "used.webp"):
        windows.use(output / in_use)
        for act in (to_trash, lambda name: rename(name, "free")):
            with pytest.raises(DiskError, match="another program has it open"):
                act("used.safetensors")
            assert [name for name in files(output) if "free" not in name] == before
        windows.used.clear()
    assert rename("my-dog.safetensors", "My-Dog") == "My-Dog.safetensors"
    with pytest.raises(NameTakenError):
        rename("used.safetensors", "MY-DOG")
    to_trash("used.safetensors")
    names = ["My-Dog.pictures.webp", "My-Dog.safetensors", "My-Dog.webp"]
    assert [name for name in files(output) if ".trash" not in name] == names


def rename_to_one(place, start, own):
    start.wait(60)
    for number in range(20):
        with suppress(NameTakenError):
            rename(f"{own}-{number}.safetensors", f"one-{number}")


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_two_renames_to_one_name_lose_nothing(output):
    content = {}
    for own in ("cat", "dog"):
        for number in range(20):
            path = put(output, f"{own}-{number}.safetensors", placeholder=f"<{own}{number}>")
            content[path.name] = path.read_bytes()
    context = multiprocessing.get_context("fork")
    start = context.Event()
    owns = ("cat", "dog")
    racers = [context.Process(target=rename_to_one, args=(output, start, o)) for o in owns]
    for racer in racers:
        racer.start()
    start.set()
    for racer in racers:
        racer.join()
    left = sorted(path.read_bytes() for path in output.glob("*.safetensors"))
    assert left == sorted(content.values())
    assert sum(name.startswith("one") for name in files(output)) == 20 * 3
    assert len(files(output)) == 40 * 3
