"""Disks that fail at any moment, and programs that want the same names at once."""

import errno
import multiprocessing
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import folder_paths
import pytest
import torch
from personalize.concepts import disk, methods
from personalize.concepts.concept import Concept
from personalize.concepts.errors import PersonalizeError
from personalize.concepts.files import load_concept, save_concept
from personalize.host.card_pictures import is_taken, write_pictures
from personalize.host.folders import save_new
from personalize.host.shelf import rename, shelf, to_trash
from personalize.tests.fuzz.campaign import told
from personalize.tests.fuzz.test_fuzz_files import same, state
from personalize.training.states import StateFolder

pytestmark = [pytest.mark.host, pytest.mark.slow]

CALLS = ("open", "fsync", "link", "replace", "rename", "unlink", "mkdir")
ERRORS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.EPERM)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "concepts"
    folder.mkdir()
    known = {"concepts": ([str(folder)], {".safetensors", ".pt", ".bin"})}
    monkeypatch.setattr(
        folder_paths, "folder_names_and_paths", {**folder_paths.folder_names_and_paths, **known}
    )
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.setattr(disk, "_WAITS", (0, 0))
    return folder


def concept(text: str) -> Concept:
    word = torch.full((1, 64), float(len(text)))
    return Concept(methods.CROSS_INIT, "sd1", 64, "<me>", text, words={"": word})


def save(folder: Path, name: str, text: str) -> None:
    new = save_new(
        folder,
        name,
        lambda path: save_concept(concept(text), path, new=True),
        is_taken=is_taken,
    )
    with suppress(PersonalizeError):
        write_pictures(new, None, torch.zeros(1, 8, 8, 3, dtype=torch.uint8))


def files(folder: Path) -> dict[str, bytes]:
    """All files but those that are being written, by their path."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.suffix != ".tmp"}


def broken(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> set[str]:
    """Calls of the system fail, from some moment on or now and then; returns which."""
    number, at = rng.choice(ERRORS), rng.randrange(12)
    for_good, count = rng.random() < 0.5, [0]

    def failing(real: Callable) -> Callable:
        def call(*args, **options):
            count[0] += 1
            if count[0] > at and (for_good or rng.random() < 0.3):
                raise OSError(number, os.strerror(number))
            return real(*args, **options)

        return call

    names: set[str] = set(rng.sample(CALLS, rng.randrange(1, len(CALLS))))
    for name in names:
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    return names


def test_failing_disks(campaign, folder, monkeypatch):
    """What was there stays; what is asked for is done whole or told in a sentence.

    Where the disk deletes nothing either, what was begun cannot be taken back: a file may then have
    two names, and on a disk without links a claimed name stay empty. Nothing is lost even so.
    """
    save_concept(concept("another"), folder / "another")
    another = (folder / "another").read_bytes()
    (folder / "another").unlink()
    for number in range(4):
        save(folder, f"dog{number}", f"subject {number}")

    def try_one(rng: random.Random) -> None:
        before = files(folder)
        entries = [entry["name"] for entry in shelf()]
        one, wanted = rng.choice(entries), f"name{rng.randrange(10**9)}"
        acts: list[Callable[[], object]] = [
            lambda: save_concept(concept("another"), folder / f"{wanted}.safetensors", new=True),
            lambda: rename(one, wanted),
        ]
        act = rng.choice(acts)
        with monkeypatch.context() as patch:
            failing = broken(patch, rng)
            told(act)
        after = files(folder)
        kept, had = Counter(after.values()), Counter(before.values())
        assert not had - kept, "a file was lost or changed"
        assert kept.keys() <= had.keys() | {b"", another}, "a file is half written"
        assert kept[b""] == 0 or {"link", "unlink"} <= failing, "a claimed name stayed empty"
        assert not kept & had - had or "unlink" in failing, "a file has two names"
        for name, content in after.items():
            if not content or (name not in before and kept[content] > had[content]):
                (folder / name).unlink()
                kept[content] -= 1

    campaign.run("failing disks", try_one).check()


def test_states_on_failing_disks(campaign, tmp_path, monkeypatch, caplog):
    """A training never ends because its state cannot be kept, and the last one kept is whole."""
    monkeypatch.setattr(disk, "_WAITS", (0,))
    keeper, kept = StateFolder(tmp_path, "key"), [1]
    keeper.save(state(1))

    def try_one(rng: random.Random) -> None:
        caplog.clear()
        step = kept[0] + 1
        with monkeypatch.context() as patch:
            broken(patch, rng)
            keeper.save(state(step))
        found = keeper.latest(up_to=step)
        assert found is not None and found.step in (kept[0], step)
        assert same(found, state(found.step))
        kept[0] = found.step if found.step < 50 else kept[0]
        if found.step >= 50:
            for path in keeper.folder.glob("step_*"):
                path.unlink()
            keeper.save(state(1))
            kept[0] = 1

    campaign.run("states on failing disks", try_one).check()


def states_of(folder: Path) -> Path:
    return folder.parent.parent / "states" / folder.name


def contend(folder: Path, number: int, seed: str, start) -> None:
    """Save, rename, throw away and train in one folder, beside others that do the same."""
    rng = random.Random(seed)
    start.wait(60)
    keeper = StateFolder(states_of(folder), "key")
    for n in range(12):
        with suppress(PersonalizeError):
            save(folder, f"name{rng.randrange(4)}", f"subject {number}-{n}")
        names = [entry["name"] for entry in shelf()]
        if names:
            with suppress(PersonalizeError):
                one = rng.choice(names)
                if rng.random() < 0.3:
                    to_trash(one)
                else:
                    rename(one, f"name{rng.randrange(6)}")
        keeper.save(state(n + 1))
    os._exit(0)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_races(campaign, folder):
    """Of three programs that save, rename, delete and train at once, none loses a concept."""
    context = multiprocessing.get_context("fork")
    round_ = [0]

    def try_one(rng: random.Random) -> None:
        round_[0] += 1
        place = folder / f"round{round_[0]}"
        place.mkdir()
        key = {"concepts": ([str(place)], {".safetensors", ".pt", ".bin"})}
        folder_paths.folder_names_and_paths.update(key)
        folder_paths.filename_list_cache.clear()
        start = context.Event()
        seeds = [str(rng.random()) for _ in range(3)]
        programs = [
            context.Process(target=contend, args=(place, number, seed, start))
            for number, seed in enumerate(seeds)
        ]
        for program in programs:
            program.start()
        start.set()
        for program in programs:
            program.join()
        assert [program.exitcode for program in programs] == [0, 0, 0]
        found = [load_concept(path).class_word for path in place.glob("**/name*.safetensors")]
        assert sorted(found) == sorted(f"subject {p}-{n}" for p in range(3) for n in range(12))
        latest = StateFolder(states_of(place), "key").latest(up_to=12)
        assert latest is not None and same(latest, state(12))

    campaign.run("races", try_one).check()
