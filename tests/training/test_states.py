"""Training states: any damage costs the newest state and no more; a full disk costs none."""

import errno
import logging
import multiprocessing
import os
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from personalize.concepts import disk
from personalize.concepts.errors import TrainingError
from personalize.tests.windows_disk import WindowsDisk
from personalize.training import states
from personalize.training.loop import TrainState
from personalize.training.states import KEPT_STATES, KEPT_TRAININGS, YOUNG_TRAINING, StateFolder
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = pytest.mark.host


def state(step, seed=0):
    generator = torch.Generator().manual_seed(seed)
    word = torch.randn(2, 8, generator=generator)
    moments = {"step": torch.tensor(float(step)), "exp_avg": word * 0.1, "exp_avg_sq": word**2}
    losses = {name: [0.5] * step for name in ("loss", "denoising")}
    return TrainState(step, {"word": word}, {"word": moments}, generator.get_state(), 1.0, losses)


def assert_same(one, other):
    assert (one.step, one.loss_scale, one.losses) == (other.step, other.loss_scale, other.losses)
    assert torch.equal(one.generator, other.generator)
    assert torch.equal(one.parameters["word"], other.parameters["word"])
    assert one.moments["word"].keys() == other.moments["word"].keys()
    for key, moment in other.moments["word"].items():
        assert torch.equal(one.moments["word"][key], moment)


@pytest.fixture
def folder(tmp_path):
    return StateFolder(tmp_path / "training", "key")


def newest(folder):
    return max(folder.folder.iterdir())


def test_the_furthest_state_that_is_wanted(folder):
    for step in (2, 999_998, 1_000_000):
        folder.save(state(step) if step == 2 else replace(state(2), step=step))
    assert folder.latest(up_to=2_000_000).step == 1_000_000
    assert folder.latest(up_to=999_999).step == 999_998
    assert folder.latest(up_to=1) is None


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_costs_the_newest_state_and_no_more(data, folder, caplog):
    for step in (2, 4):
        folder.save(state(step))
    path = newest(folder)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "end", "zeros"]))
    if change == "flip":
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    elif change == "cut":
        del whole[at : at + data.draw(st.integers(1, 50))]
    elif change == "end":
        del whole[at:]
    else:
        whole[at:] = bytes(len(whole) - at)
    path.write_bytes(whole)
    caplog.clear()
    found = folder.latest(up_to=4)
    if found.step == 4:  # in white space or zeros that were there
        assert_same(found, state(4))
    else:
        assert_same(found, state(2))
        assert f"{path} is passed over: " in caplog.text


def test_a_digest_whose_name_was_damaged_is_none_of_an_earlier_version(folder, caplog):
    for step in (2, 4):
        folder.save(state(step))
    path = newest(folder)
    whole = bytearray(path.read_bytes().replace(b"sha256", b"sha252"))
    whole[-1] ^= 1
    path.write_bytes(whole)
    assert_same(folder.latest(up_to=4), state(2))
    assert f"{path} is passed over: " in caplog.text


def without_digest(path, change=lambda tensors, metadata: None):
    """Rewrite a state as an earlier version wrote it."""
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        metadata = {k: v for k, v in file.metadata().items() if k not in ("sha256", "checked_by")}
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_states_of_earlier_versions_are_read(folder):
    folder.save(state(2))
    without_digest(newest(folder))
    assert_same(folder.latest(up_to=2), state(2))


ODD = {
    "no step": lambda tensors, metadata: metadata.pop("step"),
    "a step of letters": lambda tensors, metadata: metadata.update(step='"many"'),
    "deep brackets": lambda tensors, metadata: metadata.update(step="[" * 100_000),
    "no generator": lambda tensors, metadata: tensors.pop("generator"),
    "a name without parts": lambda tensors, metadata: tensors.update({"adam/word": torch.ones(1)}),
    "another format": lambda tensors, metadata: metadata.update(format='"personalize-state/2"'),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_states_are_passed_over(odd, folder):
    for step in (2, 4):
        folder.save(state(step))
    without_digest(newest(folder), ODD[odd])
    assert folder.latest(up_to=4).step == 2


def test_a_state_that_the_training_refuses_is_passed_over(folder, caplog):
    for step in (2, 4):
        folder.save(state(step))

    def check(found):
        if found.step == 4:
            raise TrainingError("it does not fit this training.")

    assert folder.latest(4, check).step == 2
    assert "step_000004.safetensors is passed over: it does not fit this training." in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_ends_no_training(number, folder, monkeypatch, caplog):
    folder.save(state(2))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", lambda handle: fail(number))
        broken.setattr(disk, "_WAITS", (0,))
        folder.save(state(4))
    assert "The training goes on, but step 4 is not kept: '" in caplog.text
    assert_same(folder.latest(up_to=4), state(2))


def fail(number):
    raise OSError(number, os.strerror(number))


def test_a_file_in_the_folders_place_ends_no_training(folder, caplog):
    folder.folder.parent.mkdir()
    folder.folder.touch()
    folder.save(state(2))
    assert "a file stands in a folder's place" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="plays Windows on Linux")
def test_a_state_that_another_program_has_open_ends_no_training(
    folder, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(states, "SMALL_STATE", 0)  # these are small, and would all be kept
    folder.save(state(2))
    windows = WindowsDisk(tmp_path, monkeypatch)
    windows.use(newest(folder))
    for step in (4, 6, 8):
        folder.save(state(step))
    assert folder.latest(up_to=8).step == 8
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    windows.used.clear()
    folder.save(state(10))
    assert len(list(folder.folder.iterdir())) == KEPT_STATES


def aged(folder):
    for path in (folder.folder, *folder.folder.iterdir()):
        os.utime(path, ns=(path.stat().st_mtime_ns - 2 * YOUNG_TRAINING,) * 2)


def test_only_old_trainings_make_room(tmp_path):
    folders = [StateFolder(tmp_path, f"key{n}") for n in range(KEPT_TRAININGS + 3)]
    for one in folders[:-1]:
        one.save(state(2))
    aged(folders[0])
    folders[-1].save(state(2))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {one.folder.name for one in folders[1:]}


def train(root, key, start, steps):
    start.wait(60)
    folder = StateFolder(root, key)
    for step in range(1, steps + 1):
        folder.save(state(step))
        found = folder.latest(up_to=steps)
        assert found is not None and found.step >= step


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_two_trainers_of_one_training(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    trainers = [
        context.Process(target=train, args=(tmp_path, key, start, 25)) for key in ("a", "a", "b")
    ]
    for trainer in trainers:
        trainer.start()
    start.set()
    for trainer in trainers:
        trainer.join()
    assert [trainer.exitcode for trainer in trainers] == [0, 0, 0]
    assert_same(StateFolder(tmp_path, "a").latest(up_to=25), state(25))
