"""The whole way on a real server, over HTTP and websocket, with stock nodes around ours."""

import io
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.server

CHECKPOINT = "tiny_sd1.safetensors"
LONG = {"steps": 60, "batch_size": 1, "save_every": 7, "preview_every": 0}
LIVE = "personalize.live"


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def draw_picture(number, size):
    picture = Image.new("RGB", size, ("#87b5d9", "#d9c9a3", "#a8c69f")[number % 3])
    width, height = size
    box = (width // 4, height // 4, width // 4 * 3, height // 4 * 3)
    ImageDraw.Draw(picture).ellipse(box, fill="#d1495b", outline="#30323d", width=3)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def names(server):
    """Pictures of three sizes in the input folder."""
    sizes = [(96, 96), (80, 120), (64, 64)]
    return [
        server.client.upload_image(f"ball{n}.png", draw_picture(n, size))
        for n, size in enumerate(sizes)
    ]


def base(lora=None):
    nodes = {"base": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)}
    if lora:
        sockets = {"model": ["base", 0], "clip": ["base", 1]}
        strengths = {"strength_model": 1.0, "strength_clip": 1.0}
        nodes["lora"] = node("LoraLoader", lora_name=lora, **sockets, **strengths)
    return nodes


def training(names, key="train", lora=None, **changes):
    """Pictures of several sizes -> list -> Train Cross Initialization."""
    source = "lora" if lora else "base"
    loads = {f"{key}_image{n}": node("LoadImage", image=name) for n, name in enumerate(names)}
    pictures = {f"inputs.input{n}": [load, 0] for n, load in enumerate(loads)}
    sockets = {"model": [source, 0], "clip": [source, 1], "vae": ["base", 2]}
    subject = {"placeholder": "<ball>", "class_word": "ball", "init_from": "class word"}
    schedule = {"steps": 4, "batch_size": 2, "learning_rate": 0.005, "preview_every": 2}
    more = {"images": [f"{key}_list", 0], "reg_weight": 1e-5, "train_seed": 0, "resolution": 64}
    settings = sockets | subject | schedule | more
    train = node("PersonalizeTrainCrossInit", **settings | changes)
    return {**base(lora), **loads, f"{key}_list": node("CreateList", **pictures), key: train}


def saved(filename, key="train"):
    concept = {"concept": [key, 0], "also_as_embedding": False}
    return {f"save_{key}": node("PersonalizeSaveConcept", filename=filename, **concept)}


def sampling(prompt, model=("base", 0), clip=("base", 1), key="draw"):
    """Stock text encode, KSampler, VAE decode and Save Image."""
    model, clip = list(model), list(clip)
    places = {"positive": [f"{key}_positive", 0], "negative": [f"{key}_negative", 0]}
    how = {"seed": 5, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    latent = {"latent_image": [f"{key}_latent", 0], "denoise": 1.0}
    return {
        f"{key}_positive": node("CLIPTextEncode", clip=clip, text=prompt),
        f"{key}_negative": node("CLIPTextEncode", clip=clip, text=""),
        f"{key}_latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        f"{key}_sample": node("KSampler", model=model, **places, **how, **latent),
        f"{key}_decode": node("VAEDecode", samples=[f"{key}_sample", 0], vae=["base", 2]),
        f"{key}_save": node("SaveImage", images=[f"{key}_decode", 0], filename_prefix="end"),
    }


def applied(concept, model=("base", 0), clip=("base", 1), strength=1.0, key="apply"):
    more = {"strength": strength, "local_strength": 0.8, "start_percent": 0.0, "end_percent": 1.0}
    sockets = {"model": list(model), "clip": list(clip), "concept": list(concept)}
    return {key: node("PersonalizeApplyConcept", **sockets, **more)}


def pixels(server, run, key="draw"):
    """The saved PNG, fetched over HTTP."""
    (file,) = run.outputs[f"{key}_save"]["images"]
    return np.asarray(Image.open(io.BytesIO(server.client.fetch(file))))


def draw_stock(server, mark, lora=None):
    """A stock picture; `mark` white spaces keep the server from answering out of its cache."""
    source = "lora" if lora else "base"
    prompt = sampling("a photo of a ball" + " " * mark, (source, 0), (source, 1))
    run = server.client.run({**base(lora), **prompt})
    cached = [set(data["nodes"]) for kind, data in run.messages if kind == "execution_cached"]
    assert not any({"draw_sample", "draw_positive"} & nodes for nodes in cached)
    return pixels(server, run)


def saved_path(run, key="train"):
    (path,) = run.outputs[f"save_{key}"]["concepts"]
    return path


def learn(server, names, filename, on_message=None, **changes):
    """Train and save; return the path of the concept file."""
    workflow = {**training(names, **changes), **saved(filename)}
    return saved_path(server.client.run(workflow, on_message))


def words(path):
    return load_file(path)["word"]


def content(path):
    with open(path, "rb") as file:
        return file.read()


def step_of(message):
    """Step that the news of a training tell, 0 for other messages."""
    return message.data["step"] if message.kind == LIVE else 0


def begun_after(messages):
    """Steps that lay behind the first one of which the news tell a loss."""
    news = [m.data for m in messages if m.kind == LIVE and m.data["losses"].get("loss")]
    return news[0]["start"]


def test_from_pictures_to_a_picture(server, names):
    messages, log = [], len(server.log())
    workflow = {
        **training(names, steps=6),
        **saved("ways/ball"),
        "losses": node("LossGraphNode", loss=["train", 1], filename_prefix="loss"),
    }
    run = server.client.run(workflow, messages.append)
    assert_progress_was_seen(server.client, messages, steps=6)
    assert run.outputs["losses"]["images"]

    name = "ways/ball.safetensors"
    listed = server.client.object_info("PersonalizeLoadConcept")["PersonalizeLoadConcept"]
    assert name in listed["input"]["required"]["concept_name"][1]["options"]
    using = {
        **base(),
        "concept": node("PersonalizeLoadConcept", concept_name=name, placeholder="<rex>"),
        **applied(("concept", 0)),
        **sampling("a photo of <rex> on the beach", ("apply", 0), ("apply", 1)),
        **sampling("a photo of <rex> on the beach", key="stock"),
    }
    run = server.client.run(using)
    ours, stock = pixels(server, run), pixels(server, run, "stock")
    assert ours.shape == (64, 64, 3) and ours.std() > 0
    assert not np.array_equal(ours, stock)

    new = server.log()[log:].splitlines()
    told = [line for line in new if "stock_positive: <rex> stays plain text" in line]
    assert len(told) == 1
    trouble = re.compile("WARNING|ERROR|Traceback")  # older hosts print no levels
    assert not [line for line in new if trouble.search(line) and line not in told]


def assert_progress_was_seen(client, messages, steps):
    bar = [
        (m.data["value"], m.data["max"])
        for m in messages
        if m.kind == "progress" and m.data.get("node") == "train"
    ]
    assert (steps, steps) in bar
    news = [m.data for m in messages if m.kind == LIVE]
    assert "encoding" in [told["note"]["key"] for told in news if told["note"]]
    assert (news[-1]["step"], news[-1]["stage"]) == (steps, "finished")
    assert len(news[-1]["previews"]) >= steps // 2
    ask = f"/personalize/live/preview?prompt={news[-1]['prompt']}&node=train&step={steps}"
    preview = Image.open(io.BytesIO(client.get(ask)))
    assert preview.width == preview.height >= 64
    assert not [m for m in messages if m.kind in ("text", "preview")]  # the host's own leak
    saving = [m.data["text"] for m in messages if m.kind == "personalize.told"]
    assert any(text.startswith("saved ") for text in saving)


def test_the_stock_models_draw_the_same_before_and_after_a_training(server, names):
    before = draw_stock(server, 1)
    learn(server, names, "unchanged/finished", train_seed=21)
    assert np.array_equal(draw_stock(server, 2), before)


def test_sampling_before_and_after_a_training_in_one_prompt(server, names):
    """The pictures to learn from are drawn by the model that then learns them."""
    first = sampling("a photo of a ball  ", key="first")
    trained = training(names, images=["first_decode", 0], train_seed=22)
    del trained["train_list"]
    last = sampling("a photo of a ball  ", ("apply", 0), ("apply", 1), key="last")
    word = sampling("a photo of a <ball>", ("apply", 0), ("apply", 1), key="word")
    workflow = {**first, **trained, **applied(("train", 0)), **last, **word}
    run = server.client.run(workflow)
    assert np.array_equal(pixels(server, run, "first"), pixels(server, run, "last"))
    assert not np.array_equal(pixels(server, run, "first"), pixels(server, run, "word"))


def test_two_trainings_in_one_prompt_and_another_after_them(server, names):
    first = training(names, "one", train_seed=31)
    second = training(names[:2], "two", train_seed=32)
    workflow = {**first, **second, **saved("two/one", "one"), **saved("two/two", "two")}
    run = server.client.run(workflow)
    one, two = (words(saved_path(run, key)) for key in ("one", "two"))
    assert not torch.equal(one, two)
    again = learn(server, names, "two/again", train_seed=31, resume=False)
    assert torch.equal(words(again), one)


def test_strength_0_is_the_class_word_and_leaves_the_model_alone(server, names):
    trained = training(names, train_seed=41)
    off = sampling("a photo of a <ball>", ("apply", 0), ("apply", 1), key="off")
    stock = sampling("a photo of a ball", key="stock")
    run = server.client.run({**trained, **applied(("train", 0), strength=0.0), **off, **stock})
    assert np.array_equal(pixels(server, run, "off"), pixels(server, run, "stock"))


@pytest.fixture(scope="module")
def lora(server):
    """A LoRA file with one layer of the UNet and one of the text encoder."""
    checkpoint = load_file(server.base_directory / "models" / "checkpoints" / CHECKPOINT)
    places = {
        "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k": (
            "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
        ),
        "lora_te_text_model_encoder_layers_1_mlp_fc1": (
            "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight"
        ),
    }
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, key in places.items():
        rows, columns = checkpoint[key].shape
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 2, generator=generator) * 0.3
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, columns, generator=generator) * 0.3
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, server.base_directory / "models" / "loras" / "tiny.safetensors")
    return "tiny.safetensors"


def test_learning_on_models_with_a_lora(server, names, lora):
    plain, patched = draw_stock(server, 3), draw_stock(server, 3, lora)
    assert not np.array_equal(plain, patched)
    with_lora = learn(server, names, "lora/with", lora=lora, train_seed=51)
    without = learn(server, names, "lora/without", train_seed=51)
    assert not torch.equal(words(with_lora), words(without))
    assert np.array_equal(draw_stock(server, 4, lora), patched)
    assert np.array_equal(draw_stock(server, 4), plain)


def test_a_lora_and_a_concept_in_any_order(server, names, lora):
    trained, loader = training(names, train_seed=52), base(lora)["lora"]
    first = {"lora": loader, **applied(("train", 0), ("lora", 0), ("lora", 1))}
    after = {"model": ["apply", 0], "clip": ["apply", 1]}
    last = {**applied(("train", 0)), "lora": {**loader, "inputs": loader["inputs"] | after}}
    pictures = []
    for nodes, end in ((first, "apply"), (last, "lora")):
        drawn = sampling("a <ball> in the snow", (end, 0), (end, 1))
        run = server.client.run({**trained, **nodes, **drawn})
        pictures.append(pixels(server, run))
    assert np.array_equal(*pictures)


def states(server):
    """Last step of each kept training, by the name of its folder."""
    folders = (server.base_directory / "output" / "personalize" / "training").glob("*")
    steps = {f.name: [int(p.stem[5:]) for p in f.glob("step_*.safetensors")] for f in folders}
    return {name: max(found) for name, found in steps.items() if found}


def new_state(server, before):
    """Last step of the one training that was not there before."""
    (step,) = (step for name, step in states(server).items() if name not in before)
    return step


def test_cancel_stops_a_training_and_resume_goes_on(server, names):
    from personalize.cli.client import RunError

    before, cancelled = states(server), list[int]()

    def cancel_at_3(message):
        if step_of(message) >= 3 and not cancelled:
            cancelled.append(step_of(message))
            server.client.interrupt()

    settings = LONG | {"train_seed": 61, "steps": 100_000}
    with pytest.raises(RunError, match="interrupted") as error:
        learn(server, names, "cancel/never", cancel_at_3, **settings)
    run = error.value.run
    assert run.interrupted and run.status == "error" and run.error is None
    assert "save_train" not in run.outputs

    step = new_state(server, before)
    assert cancelled[0] <= step < settings["steps"]  # tests/nodes/test_train_nodes.py counts steps

    settings["steps"] = step + 5
    news = []
    path = learn(server, names, "cancel/resumed", news.append, **settings)
    assert begun_after(news) == step
    whole = learn(server, names, "cancel/whole", resume=False, **settings)
    assert content(path) == content(whole)


def test_a_finished_training_is_not_repeated(server, names):
    settings = {"train_seed": 63, "preview_every": 0}
    whole = learn(server, names, "finished/whole", **settings)
    news = []
    settings["preview_every"] = 3  # another input, or the host would not ask the node at all
    again = learn(server, names, "finished/again", news.append, **settings)
    steps = [step_of(message) for message in news if message.kind == LIVE]
    assert set(steps) == {0, 4}  # none between
    assert content(again) == content(whole)


def test_a_killed_server_resumes_bit_equal(server, names):
    class Killed(Exception):
        pass

    def kill_at_20(message):
        if step_of(message) >= 20:
            server.kill()
            raise Killed

    before, settings = states(server), LONG | {"train_seed": 71}
    with pytest.raises(Killed):
        learn(server, names, "kill/never", kill_at_20, **settings | {"steps": 5000})
    server.start()
    for folder in (server.base_directory / "output" / "personalize" / "training").iterdir():
        half = folder / ".personalize-0123456789abcdef.tmp"  # as if it had died while it wrote
        half.touch()
        os.utime(half, (0, 0))
    step = new_state(server, before)
    assert step >= 14 and step % 7 == 0  # what save_every had kept: the process could say nothing
    settings["steps"] = step + 15
    news = []
    path = learn(server, names, "kill/resumed", news.append, **settings)
    folders = (server.base_directory / "output" / "personalize" / "training").iterdir()
    assert any(not list(folder.glob(".*")) for folder in folders)
    assert begun_after(news) == step
    whole = learn(server, names, "kill/whole", resume=False, **settings)
    assert content(path) == content(whole)


BAD = {
    "placeholder": ({"placeholder": "ball"}, "placeholder 'ball' is an ordinary word.*<ball>"),
    "class word": ({"class_word": "  "}, "class_word is empty. Write what the subject is"),
    "small": ({"images": ["small", 0]}, "Picture 1 has 40 x 40 pixels.*at least 64 x 64"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_failing_input_is_told_in_a_sentence(case, server, names):
    from personalize.cli.client import RunError

    changes, message = BAD[case]
    small = server.client.upload_image("small.png", draw_picture(0, (40, 40)))
    workflow = training(names, **changes) | {"small": node("LoadImage", image=small)}
    with pytest.raises(RunError) as error:
        server.client.run({**workflow, **saved("bad/never")})
    details = error.value.run.error
    assert re.search(message, details["exception_message"])
    assert details["node_type"] == "PersonalizeTrainCrossInit"
    assert not (server.base_directory / "output" / "concepts" / "bad").exists()


def test_a_concept_of_another_base_model_is_refused(server, names):
    from personalize.cli.client import RunError

    trained = training(names, train_seed=81)
    other = {"other": node("CheckpointLoaderSimple", ckpt_name="tiny_sd2.safetensors")}
    wrong = applied(("train", 0), ("other", 0), ("other", 1))
    drawn = sampling("a <ball>", ("apply", 0), ("apply", 1))
    with pytest.raises(RunError, match=r"learned on .*1\.x.* 64.*this CLIP is .*2\.x.* 96"):
        server.client.run({**trained, **other, **wrong, **drawn})


def test_the_host_refuses_numbers_out_of_range_before_anything_runs(server, names):
    from personalize.cli.client import ClientError

    workflow = training(names)
    workflow["train"] = node(
        "PersonalizeTrainTextualInversion",
        **{k: v for k, v in workflow["train"]["inputs"].items() if k not in ("class_word",)},
        init_word="ball",
        vectors=76,
    )
    with pytest.raises(ClientError, match="vectors.*74|bigger than max"):
        server.client.run({**workflow, **saved("bad/never")})


# --- Stable Diffusion XL ----------------------------------------------------------------------

TRAINERS = ("TextualInversion", "CrossInit", "CatVersion", "CustomDiffusion", "DETEX", "ELITE")


def filled(server, class_type, **given):
    """A node with these inputs, and with its defaults for the others."""
    required = server.client.object_info(class_type)[class_type]["input"]["required"]
    values = {
        name: options[0]["default"]
        for name, (_, *options) in required.items()
        if options and "default" in options[0]
    }
    return node(class_type, **values | given)


def learning(server, names, method):
    """Train a method on the tiny SDXL; what gives its concept is the node "concept"."""
    node_id = f"PersonalizeTrain{method}"
    sockets = {"model": ["base", 0], "clip": ["base", 1], "vae": ["base", 2]}
    schedule = {"steps": 3, "batch_size": 2, "learning_rate": 0.01, "resolution": 64}
    more = {"images": ["picture", 0], "preview_every": 2, **sockets, **schedule}
    nodes = {
        "base": node("CheckpointLoaderSimple", ckpt_name="tiny_sdxl.safetensors"),
        "picture": node("LoadImage", image=names[0]),
        "mask": node("SolidMask", value=1.0, width=96, height=96),
    }
    if method in ("DETEX", "ELITE"):
        info = server.client.object_info("MiniatureLoadVision")["MiniatureLoadVision"]
        (name,) = info["input"]["required"]["clip_name"][1]["options"]
        nodes["vision"] = node("MiniatureLoadVision", clip_name=name)
        more |= {"clip_vision": ["vision", 0], "masks": ["mask", 0], "mask_marks": "subject"}
    if method in ("CustomDiffusion", "DETEX"):
        more["prior_images"] = ["picture", 0]
    if method == "ELITE":
        seen = {"clip_vision": ["vision", 0], "image": ["picture", 0], "mask": ["mask", 0]}
        named = {"elite": ["train", 0], "placeholder": "<ball>", "class_word": "ball"}
        nodes["concept"] = filled(server, "PersonalizeEncodeELITE", **seen, **named)
    else:
        more["placeholder"] = "<ball>"
    if method == "CrossInit":
        more["preset"] = "custom"
    nodes["train" if method == "ELITE" else "concept"] = filled(server, node_id, **more)
    return nodes


def sampling_xl(server, text_g, text_l, clip, model, key):
    """As `sampling`, with the stock node for the two texts of SDXL."""
    size = dict.fromkeys(("width", "height", "target_width", "target_height"), 64)
    nodes = sampling("", model, clip, key)
    nodes[f"{key}_positive"] = filled(
        server, "CLIPTextEncodeSDXL", clip=list(clip), text_g=text_g, text_l=text_l, **size
    )
    return nodes


@pytest.mark.parametrize("method", TRAINERS)
def test_every_method_on_sdxl_from_a_picture_to_a_picture(method, server, names):
    text, concept = "a photo of <ball> on the beach", ("concept", 0)
    patched, stock = (("apply", 1), ("apply", 0)), (("base", 1), ("base", 0))
    trained = learning(server, names, method) | saved(f"sdxl/{method}", "concept")
    if method == "ELITE":
        trained["elite"] = node("PersonalizeSaveELITE", elite=["train", 0], filename="sdxl")
    drawn = sampling_xl(server, text, text, *patched, "ours")
    run = server.client.run(
        {
            **trained,
            **applied(concept),
            **drawn,
            **sampling_xl(server, text, "painting", *patched, "one_text"),
            **sampling_xl(server, text, text, *stock, "stock"),
        }
    )
    ours, one_text, plain = (pixels(server, run, key) for key in ("ours", "one_text", "stock"))
    assert ours.std() > 0
    assert not np.array_equal(ours, plain)
    assert not np.array_equal(ours, one_text)
    loaded = node(
        "PersonalizeLoadConcept", concept_name=f"sdxl/{method}.safetensors", placeholder="<ball>"
    )
    using = {"base": trained["base"], "concept": loaded, **applied(concept), **drawn}
    assert np.array_equal(pixels(server, server.client.run(using), "ours"), ours)


def test_a_concept_of_sdxl_is_refused_on_sd1(server, names):
    from personalize.cli.client import RunError

    other = {"other": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)}
    wrong = applied(("concept", 0), ("other", 0), ("other", 1))
    drawn = sampling("a <ball>", ("apply", 0), ("apply", 1))
    trained = learning(server, names, "TextualInversion")
    with pytest.raises(RunError, match=r"learned on .*XL.* 160.*this CLIP is .*1\.x.* 64"):
        server.client.run({**trained, **other, **wrong, **drawn})
