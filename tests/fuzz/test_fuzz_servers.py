"""Real servers: killed at any moment, asked for anything, and two on one output folder."""

import io
import random
import shutil
import threading
import time
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from personalize.concepts.tensor_files import read_tensors
from personalize.tests.conftest import HOST, NO_HOST, ROOT
from personalize.tests.fuzz.mutations import hostile
from PIL import Image, ImageDraw

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.nightly]

TRAINERS = {
    "textual inversion": "PersonalizeTrainTextualInversion",
    "cross initialization": "PersonalizeTrainCrossInit",
    "catversion": "PersonalizeTrainCatVersion",
    "custom diffusion": "PersonalizeTrainCustomDiffusion",
    "detex": "PersonalizeTrainDETEX",
    "elite": "PersonalizeTrainELITE",
}
SETTINGS = {
    "placeholder": "<ball>",
    "class_word": "ball",
    "init_word": "ball",
    "init_from": "class word",
    "batch_size": 1,
    "resolution": 64,
    "prior_count": 4,
    "preview_every": 0,
}


def cut_out(number: int) -> bytes:
    """A PNG whose mask, what is transparent, is a disc in the middle, as LoadImage reads it."""
    colours = ("#d1495b", "#30638e")
    picture = Image.new("RGBA", (80, 80), colours[number])
    hole = Image.new("L", (80, 80), 255)
    ImageDraw.Draw(hole).ellipse((16, 16, 64, 64), fill=0)
    picture.putalpha(hole)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    """A server that may be killed."""
    if HOST is None:
        pytest.skip(NO_HOST)
    from personalize.tests import host_models
    from personalize.tools.demo import PACKS
    from personalize.tools.examples.miniature_examples import base_for_examples
    from personalize.tools.server.server import ComfyServer, make_base_directory

    base = base_for_examples(make_base_directory(tmp_path_factory.mktemp("server")))
    host_models.make_checkpoint(base / "models" / "checkpoints" / "tiny_sd1.safetensors", "sd1")
    packs = {**PACKS, "tiny_models": ROOT / "tests" / "host_models"}
    with ComfyServer(HOST, base, packs) as running:
        yield running


@pytest.fixture(scope="module")
def workflow(own_server):
    """Builds a training that saves what it learned; changes are inputs of the Train node."""
    from personalize.miniature.files import VISION
    from personalize.tests.test_end_to_end import node
    from personalize.tools.demo import defaults

    info = own_server.client.object_info()
    names = [own_server.client.upload_image(f"ball{n}.png", cut_out(n)) for n in (0, 1)]
    loads = {f"load{n}": node("LoadImage", image=name) for n, name in enumerate(names)}
    listed = [
        node("CreateList", **{f"inputs.input{n}": [key, slot] for n, key in enumerate(loads)})
        for slot in (0, 1)
    ]
    shared = {
        **loads,
        "pictures": listed[0],
        "inside": listed[1],
        "base": node("CheckpointLoaderSimple", ckpt_name="tiny_sd1.safetensors"),
        "vision": node("MiniatureLoadVision", clip_name=VISION),
    }
    sockets = {
        "model": ["base", 0],
        "clip": ["base", 1],
        "vae": ["base", 2],
        "clip_vision": ["vision", 0],
        "images": ["pictures", 0],
        "masks": ["inside", 0],
    }

    def build(method: str, filename: str, **changes) -> dict:
        kind = TRAINERS[method]
        known = {**info[kind]["input"]["required"], **info[kind]["input"].get("optional", {})}
        inputs = {k: v for k, v in (SETTINGS | sockets | changes).items() if k in known}
        train = node(kind, **defaults(info, kind) | inputs)
        saver = "PersonalizeSaveELITE" if method == "elite" else "PersonalizeSaveConcept"
        what = {"elite": ["train", 0]} if method == "elite" else {"concept": ["train", 0]}
        save = node(saver, **defaults(info, saver) | what | {"filename": filename})
        return {**shared, "train": train, "save": save}

    return build


def saved(run) -> Path:
    outputs = run.outputs["save"]
    (path,) = outputs.get("concepts") or outputs["encoders"]
    return Path(path)


def same(one: Path, other: Path) -> bool:
    """Bit for bit what was learned; the record of the training may say another save_every."""
    mine, theirs = (read_tensors(path, path.name).tensors for path in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(t, theirs[k]) for k, t in mine.items())


def assert_files_are_whole(server) -> None:
    """Whatever the server was doing when it died, each file is there as a whole or not at all."""
    for path in (server.base_directory / "output").rglob("*.safetensors"):
        read_tensors(path, path.name, finite=False)


def kill_during(server, prompt: dict, seconds: float) -> bool:
    """Kill the server so long after it was asked, and start it again; False when it was done."""
    prompt_id = server.client.queue(prompt)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.client.history(prompt_id) is not None:
            return False
        time.sleep(0.02)
    server.kill()
    assert_files_are_whole(server)
    server.start()
    return True


def test_kills(campaign, own_server, workflow):
    """Each method, killed with SIGKILL at a random moment, goes on to the bit-equal result."""
    steps, number = 40, [0]
    made = own_server.base_directory / "output" / "personalize"

    @cache
    def whole(method: str) -> tuple[Path, float]:
        """What an uninterrupted training saves, and the seconds it takes."""
        prompt = workflow(method, f"whole/{method}", steps=steps, resume=False, save_every=0)
        own_server.client.run({"base": prompt["base"], "train": prompt["train"], **prompt})
        started = time.monotonic()
        again = workflow(method, "again", steps=steps, resume=False, save_every=steps)
        return saved(own_server.client.run(again)), time.monotonic() - started

    def try_one(rng: random.Random) -> None:
        method = list(TRAINERS)[number[0] % len(TRAINERS)]
        number[0] += 1
        expected, seconds = whole(method)
        shutil.rmtree(made / "training", ignore_errors=True)
        if rng.random() < 0.5:
            shutil.rmtree(made / "prior", ignore_errors=True)
        prompt = workflow(
            method,
            f"killed/{number[0]}",
            steps=steps,
            save_every=rng.randrange(1, 9),
            preview_prompt=f"run {number[0]}",  # another input, or the host's cache would answer
        )
        for _ in range(rng.choice([1, 1, 1, 2])):
            kill_during(own_server, prompt, rng.uniform(0.1, 1.0) * seconds)
        made_now = saved(own_server.client.run(prompt))
        assert same(made_now, expected), f"{method} ended otherwise"
        assert_files_are_whole(own_server)

    least, most = (1, 1) if campaign.is_short else (25, 60)
    campaign.run("kills", try_one, share=4.0, least=least, most=most).check()


def changed(rng: random.Random, prompt: dict) -> dict:
    """The prompt with some inputs of our nodes set to what no widget gives."""
    prompt = {key: {**node, "inputs": dict(node["inputs"])} for key, node in prompt.items()}
    for _ in range(rng.choice([1, 1, 2, 3])):
        inputs = prompt[rng.choice(["train", "save"])]["inputs"]
        key = rng.choice([*sorted(inputs), "unknown"])
        how = rng.randrange(4)
        if how == 0:
            inputs.pop(key, None)
        elif how == 1:
            inputs[key] = [rng.choice(["base", "load0", "train", "gone"]), rng.choice([0, 1, 9])]
        else:
            inputs[key] = hostile(rng)
    return prompt


def test_prompts_to_a_server(campaign, own_server, workflow):
    """POST /prompt with anything: refused by the host, done, or told in a sentence of the pack."""
    from personalize.cli.client import ClientError, RunError

    client, number = own_server.client, [0]

    def try_one(rng: random.Random) -> None:
        number[0] += 1
        method = rng.choice(list(TRAINERS))
        prompt = changed(
            rng, workflow(method, f"any/{number[0]}", steps=1, prior_weight=0.0, resume=False)
        )
        try:
            client.run(prompt)  # as long as a busy machine takes
        except ClientError:
            pass  # the host refused it before anything ran
        except RunError as error:
            details = error.run.error
            assert details is not None
            ours = str(details["node_type"]).startswith("Personalize")
            told = "concepts.errors." in details["exception_type"]
            what = details["exception_type"], details["exception_message"], details["traceback"][-1]
            assert told or not ours, (*what, prompt["train"])
        assert client.alive()

    campaign.run("prompts to a server", try_one, share=0.7).check()


def test_two_servers_on_one_output_folder(campaign, own_server, workflow, tmp_path_factory):
    """Both train and save the same at once: each has its own whole file, with the same content."""
    from personalize.tools.server.server import ComfyServer

    base, number = own_server.base_directory, [0]
    output = ["--output-directory", str(base / "output")]
    packs = {path.name: path.resolve() for path in (base / "custom_nodes").iterdir()}
    other_base = tmp_path_factory.mktemp("other")
    shutil.copytree(base / "models", other_base / "models", dirs_exist_ok=True)
    shutil.copytree(base / "input", other_base / "input", dirs_exist_ok=True)

    with ComfyServer(HOST, other_base, packs, output) as other:

        def try_one(rng: random.Random) -> None:
            number[0] += 1
            method, save_every = rng.choice(list(TRAINERS)), rng.choice([1, 2, 5])
            prompt = workflow(
                method, "both/same", steps=10, save_every=save_every, train_seed=number[0]
            )
            runs: dict[int, object] = {}
            threads = [
                threading.Thread(target=partial(run_into, runs, n, server.client, prompt))
                for n, server in enumerate((own_server, other))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            failures = [one for one in runs.values() if isinstance(one, Exception)]
            assert not failures, failures
            one, two = (saved(run) for run in runs.values())
            assert one != two and same(one, two)

        campaign.run("two servers on one output folder", try_one, share=0.7).check()


def run_into(runs: dict[int, object], number: int, client, prompt: dict) -> None:
    try:
        runs[number] = client.run(prompt, timeout=300)
    except Exception as error:
        runs[number] = error
