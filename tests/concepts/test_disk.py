"""Files on the disk: whole or not at all, one name once, and a sentence where the disk refuses."""

import errno
import multiprocessing
import os
import stat
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from personalize.concepts import disk
from personalize.concepts.disk import move_new, remove, stamp, tidy, write_new, write_whole
from personalize.concepts.errors import DiskError, NameTakenError
from personalize.tests.windows_disk import LONGEST_PATH, WindowsDisk

linux = pytest.mark.skipif(sys.platform != "linux", reason="plays other systems on Linux")


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(params=["links", "no links", pytest.param("Windows", marks=linux)])
def place(request, tmp_path, monkeypatch):
    """A folder on a usual disk, on one without links such as exFAT, and on Windows."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    if request.param == "Windows":
        WindowsDisk(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def windows(tmp_path, monkeypatch):
    return WindowsDisk(tmp_path, monkeypatch)


def failing(number):
    def act(*args, **options):
        raise OSError(number, os.strerror(number))

    return act


def test_writing(place):
    path = place / "deep" / "er" / "dog"
    write_new(b"1", path)
    assert path.read_bytes() == b"1"
    write_whole(b"2", path)
    assert path.read_bytes() == b"2"
    assert names(path.parent) == ["dog"]


def test_a_file_has_the_permissions_of_any_other(place):
    write_new(b"1", place / "new")
    write_whole(b"1", place / "whole")
    (place / "other").touch()
    assert len({stat.S_IMODE((place / name).stat().st_mode) for name in names(place)}) == 1


@linux
def test_a_disk_that_stops_deleting_loses_no_file_that_is_moved(tmp_path, monkeypatch):
    """Not for a moment, as a network drive does: without links the target is the only copy."""
    write_new(b"1", tmp_path / "dog")
    refused = iter([errno.EIO, errno.EIO])
    unlink = os.unlink

    def sometimes(path, *args, **options):
        number = next(refused, None) if Path(path).name == "dog" else None
        return failing(number)() if number else unlink(path, *args, **options)

    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os, "unlink", sometimes)
    move_new(tmp_path / "dog", tmp_path / "cat")
    assert names(tmp_path) == ["cat"] and (tmp_path / "cat").read_bytes() == b"1"


def test_a_taken_name_is_told_and_left_alone(place):
    path = place / "dog"
    write_new(b"first", path)
    write_new(b"other", place / "cat")
    for act in (lambda: write_new(b"second", path), lambda: move_new(place / "cat", path)):
        with pytest.raises(NameTakenError, match="There is a file 'dog' already. Choose another"):
            act()
    assert path.read_bytes() == b"first"
    assert (place / "cat").read_bytes() == b"other"
    assert names(place) == ["cat", "dog"]


def test_moving(place):
    write_new(b"1", place / "a")
    move_new(place / "a", place / "a")
    move_new(place / "a", place / "deep" / "er" / "b")
    assert (place / "deep" / "er" / "b").read_bytes() == b"1"
    assert names(place) == ["deep"]
    remove(place / "deep" / "er" / "b")
    remove(place / "deep" / "er" / "b")
    assert names(place / "deep" / "er") == []


def test_a_dangling_link_is_a_taken_name(tmp_path):
    link = tmp_path / "link"
    try:
        link.symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(NameTakenError):
        write_new(b"1", link)
    assert not (tmp_path / "nowhere").exists()


@linux
def test_capitals_alone_can_be_changed_where_they_are_all_one(windows, tmp_path):
    write_new(b"1", tmp_path / "dog")
    with pytest.raises(NameTakenError):
        write_new(b"2", tmp_path / "DOG")
    move_new(tmp_path / "dog", tmp_path / "Dog")
    assert names(tmp_path) == ["Dog"]


@linux
@pytest.mark.parametrize("times", [1, 3])
def test_a_file_in_use_is_asked_for_again(times, windows, tmp_path):
    for name in "abc":
        write_new(b"old", tmp_path / name)
        windows.use(tmp_path / name, times)
    write_whole(b"new", tmp_path / "a")
    move_new(tmp_path / "b", tmp_path / "moved")
    remove(tmp_path / "c")
    assert names(tmp_path) == ["a", "moved"]
    assert (tmp_path / "a").read_bytes() == b"new"
    assert sorted(windows.refused) == sorted("abc" * times)


@linux
def test_a_file_that_stays_in_use_is_told_and_nothing_is_half_done(windows, tmp_path):
    path = tmp_path / "dog"
    write_new(b"old", path)
    windows.use(path)
    for act, done in (
        (lambda: write_whole(b"new", path), "written"),
        (lambda: move_new(path, tmp_path / "cat"), "moved"),
        (lambda: remove(path), "deleted"),
    ):
        message = f"cannot be {done}: another program has it open.*Close that program"
        with pytest.raises(DiskError, match=message):
            act()
        assert names(tmp_path) == ["dog"] and path.read_bytes() == b"old"


@linux
def test_a_mapped_file_is_told_by_an_error_of_its_own(tmp_path, monkeypatch):
    """ERROR_USER_MAPPED_FILE, of which Python makes an OSError with EINVAL."""
    path, asked = tmp_path / "dog", []
    path.write_bytes(b"1")

    def replace(*paths):
        asked.append(paths)
        error = OSError(errno.EINVAL, "a file with a user-mapped section open")
        error.winerror = 1224
        raise error

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(disk, "_WAITS", (0, 0))
    with pytest.raises(DiskError, match="dog' cannot be written: another program has it open"):
        write_whole(b"2", path)
    assert len(asked) == 3 and path.read_bytes() == b"1" and names(tmp_path) == ["dog"]


def test_a_long_path_is_told(windows, tmp_path):
    path = tmp_path / ("x" * (LONGEST_PATH - len(str(tmp_path))))
    with pytest.raises(DiskError, match="too long for this system. Choose a shorter name."):
        write_new(b"1", path)


REFUSALS = {
    errno.ENOSPC: "the disk is full. Make room",
    errno.EROFS: "the disk is read-only. Choose",
    errno.EACCES: "open, or the folder is not yours",
    errno.ENAMETOOLONG: "too long",
    errno.EIO: f"{os.strerror(errno.EIO)}.",
}


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("write", [write_new, write_whole])
def test_what_the_disk_says_becomes_a_sentence(number, write, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_WAITS", (0,))
    path = tmp_path / "dog"
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(number))
        with pytest.raises(DiskError, match=f"dog' cannot be written: .*{REFUSALS[number]}"):
            write(b"1", path)
    assert names(tmp_path) == []


def test_a_folder_in_a_files_place_and_a_file_in_a_folders(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="there is a folder of that name"):
        write_whole(b"1", tmp_path / "folder")
    with pytest.raises(DiskError, match="a file stands in a folder's place"):
        write_new(b"1", tmp_path / "file" / "dog")
    assert names(tmp_path) == ["file", "folder"]


@linux
def test_a_full_disk(tmp_path):
    """A real one: more than a file may have."""
    code = textwrap.dedent(f"""
        import resource, runpy, signal
        from pathlib import Path
        runpy.run_path({str(Path(__file__).parents[2] / "cli" / "run.py")!r})["register_pack"]()
        from personalize.concepts import disk, errors
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            disk.write_new(bytes(2000), Path({str(tmp_path / "dog")!r}))
        except errors.DiskError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "dog' cannot be written: File too large." in done.stdout
    assert names(tmp_path) == []


def unfinished(folder, age=60.0):
    path = folder / f"{disk._MARK}{'0' * 16}{disk._UNFINISHED}"
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_a_killed_program_left_is_removed_at_the_next_save(tmp_path):
    unfinished(tmp_path)
    write_new(b"1", tmp_path / "dog")
    assert names(tmp_path) == ["dog"]


def test_what_is_young_or_of_another_program_stays(tmp_path):
    young = unfinished(tmp_path, age=0)
    tidy(tmp_path)
    assert young.exists()
    for name in (".personalize-notes", "mine.tmp", ".abcd1234.tmp"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    tidy(tmp_path)
    assert len(names(tmp_path)) == 4


def hold(path, held, done):
    with open(path, "r+b") as file:
        disk._lock(file)
        held.set()
        done.wait(60)


@pytest.mark.skipif(disk.locks is None, reason="Windows deletes no open file")
def test_what_another_program_is_writing_stays(tmp_path):
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    path = unfinished(tmp_path)
    writer = context.Process(target=hold, args=(path, held, done))
    writer.start()
    assert held.wait(60)
    tidy(tmp_path)
    assert path.exists()
    done.set()
    writer.join()
    tidy(tmp_path)
    assert not path.exists()


def test_a_stamp_tells_files_apart(tmp_path):
    path = tmp_path / "dog"
    write_new(b"1", path)
    stamps = {stamp(path)}
    write_whole(b"2", path)
    stamps.add(stamp(path))
    with path.open("r+b") as file:  # in place, as cp does, with the old time
        file.write(b"3")
    os.utime(path, ns=(0, 0))
    stamps.add(stamp(path))
    assert len(stamps) == 3


def race(place, start, won, act):
    start.wait(60)
    for number in range(40):
        with suppress(NameTakenError):
            act(place, number)
            won.put((number, os.getpid()))


def write_mine(place, number):
    write_new(str(os.getpid()).encode(), place / str(number))


def move_mine(place, number):
    mine = place / f"{os.getpid()}-{number}"
    mine.write_text(str(os.getpid()))
    move_new(mine, place / str(number))


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("act", [write_mine, move_mine])
def test_of_several_programs_one_gets_a_name(act, tmp_path):
    context = multiprocessing.get_context("fork")
    start, won = context.Event(), context.Queue()
    racers = [context.Process(target=race, args=(tmp_path, start, won, act)) for _ in range(4)]
    for racer in racers:
        racer.start()
    start.set()
    winners = dict(won.get(timeout=600) for _ in range(40))
    for racer in racers:
        racer.join()
    assert won.empty() and len(winners) == 40
    for number, winner in winners.items():
        assert (tmp_path / str(number)).read_text() == str(winner)
