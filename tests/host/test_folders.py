"""Names and folders: what a user may call a file, where it lands, and that it is listed at once."""

import os
import shutil
from functools import partial
from pathlib import Path

import folder_paths
import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.disk import write_new
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.files import save_concept, save_embedding
from personalize.host.folders import (
    concept_names,
    concept_path,
    concepts_output,
    elite_names,
    embeddings_folder,
    register_folders,
    sam_names,
    save_new,
    states_folder,
)

pytestmark = pytest.mark.host

CONCEPT = Concept(
    methods.TEXTUAL_INVERSION, "sd1", 64, "<my-dog>", words={"": torch.arange(64.0)[None]}
)


def saved(folder, filename):
    """Where an empty file of that name came to lie."""
    return save_new(folder, filename, partial(write_new, b""))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Folders as the pack registers them; what a test adds is forgotten after it."""
    known = {
        key: (list(paths), set(suffixes))
        for key, (paths, suffixes) in folder_paths.folder_names_and_paths.items()
    }
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    known.pop("concepts", None)
    register_folders()


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("my-dog", "my-dog.safetensors"),
        ("  my-dog ", "my-dog.safetensors"),
        ("my-dog.safetensors", "my-dog.safetensors"),
        ("my dog v1.5", "my dog v1.5.safetensors"),
        ("pets/my-dog", "pets/my-dog.safetensors"),
        ("pets\\old\\my-dog", "pets/old/my-dog.safetensors"),
        ("pets//my-dog", "pets/my-dog.safetensors"),
        ("Hündchen 犬", "Hündchen 犬.safetensors"),
        ("console", "console.safetensors"),
        ("com", "com.safetensors"),
        ("my.con", "my.con.safetensors"),
        ("~", "~.safetensors"),
    ],
)
def test_good_names(filename, expected, tmp_path):
    assert saved(tmp_path, filename) == tmp_path / expected


@pytest.mark.parametrize(
    "filename",
    [
        *("", "  ", ".", "..", "/", ".safetensors", "pets/", "pets/.safetensors"),
        *("../my-dog", "pets/../../my-dog", "..\\my-dog", "pets\\..\\..\\my-dog", "pets/.."),
        *("/tmp/my-dog", "\\\\server\\share\\my-dog", "C:\\my-dog", "C:my-dog", "c:/my-dog"),
        *("my<dog", "my>dog", "<my-dog>", "my:dog", 'my"dog', "my|dog", "what?", "*", "a\x00b"),
        *("a\nb", ".hidden", "pets/.hidden/dog", "dog.", "pets./dog", "pets /dog"),
        *("CON", "nul", "pets/NUL", "Aux/dog", "com1", "LPT9", "con.safetensors", "nul.v2", "prn"),
        *("COM\u00b2", "lpt\u00b9.x", "CONIN$", "conout$.txt", "NUL .txt", "aux  .a.b", "com0"),
        *("half a \ud800 character", "a\x7fb", "a\x85b"),
        *("x" * 300, "犬" * 100, "y" * 201 + "/dog"),
    ],
)
def test_names_that_leave_the_folder_or_that_a_system_refuses(filename, tmp_path):
    with pytest.raises(ConceptFileError, match=r"is no file name. Write a name such as my-dog"):
        saved(tmp_path / "concepts", filename)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_gets_a_number(tmp_path):
    names = [saved(tmp_path, "pets/dog").name for _ in range(3)]
    assert names == ["dog.safetensors", "dog-2.safetensors", "dog-3.safetensors"]


def test_the_longest_name_can_be_written_twice(tmp_path):
    for _ in range(2):
        save_new(tmp_path, "x" * 200, partial(save_concept, CONCEPT, new=True))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("filename", ["elsewhere/my-dog", "elsewhere/deep/my-dog", "dangling"])
def test_a_link_that_leads_out_of_the_folder_is_refused(filename, tmp_path):
    folder, outside = tmp_path / "concepts", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    try:
        (folder / "elsewhere").symlink_to(outside, target_is_directory=True)
        (folder / "dangling.safetensors").symlink_to(outside / "new.safetensors")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(ConceptFileError, match=r"leads out of .*concepts. Write a plain name"):
        saved(folder, filename)


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "big disk").mkdir()
    (tmp_path / "concepts").symlink_to(tmp_path / "big disk", target_is_directory=True)
    saved(tmp_path / "concepts", "pets/dog")
    assert (tmp_path / "big disk" / "pets" / "dog.safetensors").is_file()


def test_where_things_lie(host_base):
    assert concepts_output() == host_base / "output" / "concepts"
    assert embeddings_folder() == host_base / "models" / "embeddings"
    assert states_folder() == host_base / "output" / "personalize" / "training"
    assert folder_paths.get_folder_paths("concepts") == [
        str(host_base / "models" / "concepts"),
        str(host_base / "output" / "concepts"),
    ]


def test_registering_twice_changes_nothing():
    before = folder_paths.folder_names_and_paths["concepts"]
    register_folders()
    assert folder_paths.folder_names_and_paths["concepts"] == before


@pytest.fixture
def new_name(request, host_base):
    """A name that no other test takes, removed afterwards."""
    name = f"listed-{abs(hash(request.node.name))}"
    yield name
    for path in host_base.rglob(f"{name}*"):
        path.unlink()


@pytest.mark.parametrize("folder", ["output/concepts", "models/concepts", "output/concepts/pets"])
def test_a_saved_concept_is_listed_at_once(folder, host_base, new_name):
    listed_before = concept_names()
    path = host_base / folder / f"{new_name}.safetensors"
    save_concept(CONCEPT, path)
    name = f"pets/{path.name}" if folder.endswith("pets") else path.name
    name = name.replace("/", os.sep)
    assert name not in listed_before and name in concept_names()
    assert concept_path(name) == path


def test_a_folder_that_is_deleted_while_the_host_runs(tmp_path):
    """The host's cache of names stumbles over a folder that is gone."""
    for key in ("concepts", "elite", "sams", "embeddings"):
        folder = tmp_path / key
        (folder / "pets").mkdir(parents=True)
        folder_paths.folder_names_and_paths[key] = ([str(folder)], {".safetensors"})
        (folder / "kept.safetensors").touch()
        (folder / "pets" / "gone.safetensors").touch()
    listings = (concept_names, elite_names, sam_names)
    assert [len(names()) for names in listings] == [4, 2, 2]
    for key in ("concepts", "elite", "sams", "embeddings"):
        shutil.rmtree(tmp_path / key / "pets")
    kept = ["kept.safetensors"]
    assert [names() for names in listings] == [[*kept, "embedding:kept.safetensors"], kept, kept]
    for key in ("concepts", "elite", "sams", "embeddings"):
        shutil.rmtree(tmp_path / key)
    assert [names() for names in listings] == [[], [], []]


def test_stock_embeddings_are_listed_by_their_prefix(host_base, new_name):
    path = embeddings_folder() / f"{new_name}.safetensors"
    save_embedding(CONCEPT, path)
    assert f"embedding:{path.name}" in concept_names()
    assert concept_path(f"embedding:{path.name}") == path


def test_other_files_are_not_listed(host_base, new_name):
    for kind, suffix in (("concepts", ".txt"), ("concepts", ".tmp"), ("embeddings", ".webp")):
        (host_base / "models" / kind / f"{new_name}{suffix}").touch()
    known = [".SAFETENSORS", ".bin", ".ckpt", ".pt", ".pth", ".sft"]
    for suffix in known:
        (host_base / "models" / "concepts" / f"{new_name}{suffix}").touch()
    listed = [name for name in concept_names() if new_name in name]
    assert sorted(Path(name).suffix for name in listed) == known


@pytest.mark.parametrize("name", ["gone.safetensors", "embedding:gone.pt", "../../etc/passwd", ""])
def test_a_concept_that_is_gone_is_told_with_the_folders_searched(name, host_base):
    with pytest.raises(ConceptFileError, match=r"no concept .* Looked in .* press R") as caught:
        concept_path(name)
    folder = "embeddings" if name.startswith("embedding:") else "concepts"
    assert str(host_base / "models" / folder) in str(caught.value)


def test_extra_model_paths_are_honoured(tmp_path, monkeypatch):
    """As the host does at its start: the user's yaml first, the packs after it."""
    from utils.extra_config import load_extra_path_config

    del folder_paths.folder_names_and_paths["concepts"]
    for folder in ("my concepts", "shared"):
        (tmp_path / folder).mkdir()
        save_concept(CONCEPT, tmp_path / folder / f"from {folder}.safetensors")
    yaml = tmp_path / "extra_model_paths.yaml"
    yaml.write_text(
        f"mine:\n  base_path: {tmp_path}\n  concepts: |\n    my concepts\n    shared\n"
        "  embeddings: shared\n",
        encoding="utf-8",
    )
    load_extra_path_config(str(yaml))
    register_folders()
    names = concept_names()
    assert {"from my concepts.safetensors", "from shared.safetensors"} <= set(names)
    assert "embedding:from shared.safetensors" in names
    assert concept_path("from shared.safetensors") == tmp_path / "shared/from shared.safetensors"
    assert str(concepts_output()) in folder_paths.get_folder_paths("concepts")
