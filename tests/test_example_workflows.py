"""The examples open without a missing node, and really run."""

import io
import json
from urllib.parse import quote

import pytest
from personalize.cli.comfyui import checkout_version
from personalize.cli.workflows import (
    ANY,
    NOTES,
    WorkflowError,
    nodes_of_type,
    set_inputs,
    sockets,
    to_api,
    widgets,
)
from personalize.miniature.files import WEIGHTS
from personalize.studies.curves import draw_face
from personalize.tools.examples.make_examples import FOLDER, MINIATURE, drafts, written
from personalize.tools.examples.make_thumbnails import (
    BACKGROUND,
    PAPER,
    SIZE,
    in_order,
    thumbnail,
)
from personalize.tools.examples.miniature_examples import ENCODER, NEEDED
from personalize.tools.examples.notes import FACE_CHECKPOINT
from personalize.tools.examples.templates import TEMPLATES
from personalize.tools.get_host import VERSION
from PIL import Image

EXAMPLES, SMALL = (sorted(folder.glob("*.json")) for folder in (FOLDER, MINIATURE))
FACE = "1 Learn my face"
LARGE = {draft.name: draft for draft in TEMPLATES if draft.shown_by}
"""Those for Stable Diffusion XL."""
ELITE = {
    "5 One picture without training": (0.8, "EmptyLatentImage"),
    "6 Edit a picture": (0.6, "VAEEncode"),
}


@pytest.fixture(params=[*EXAMPLES, *SMALL], ids=lambda path: f"{path.parents[1].name} {path.stem}")
def example(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def by_id(example):
    return {node["id"]: node for node in example["nodes"]}


def test_they_are_few_numbered_and_those_of_their_generator():
    """The frontend sorts them by name as text: they are in their order then, variants behind what
    they vary."""
    assert [path.stem for path in EXAMPLES] == [draft.name for draft in TEMPLATES]
    numbers = [path.stem.partition(" ")[0] for path in EXAMPLES]
    assert [n for n in numbers if n.isdecimal()] == [str(n) for n in range(1, 10)]
    variants = [n for n in numbers if not n.isdecimal()]
    assert all(n[0].isdecimal() and n[1:].isalpha() for n in variants)
    assert len(EXAMPLES) < 15 and EXAMPLES[0].stem == FACE
    assert set(drafts()) == {*EXAMPLES, *SMALL}


@pytest.mark.parametrize("name", ELITE)
def test_elite_generates_and_edits_as_its_paper_does(name):
    example = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    nodes = {node["type"]: node for node in example["nodes"]}
    strength, source = ELITE[name]
    assert strength in nodes["PersonalizeApplyConcept"]["widgets_values"]
    encode = {slot["name"]: slot["link"] for slot in nodes["PersonalizeEncodeELITE"]["inputs"]}
    assert None not in encode.values() and "mask" in encode
    links = {link[0]: link for link in example["links"]}
    latent = next(s["link"] for s in nodes["KSampler"]["inputs"] if s["name"] == "latent_image")
    assert by_id(example)[links[latent][1]]["type"] == source


def test_every_connection_is_told_the_same_at_both_ends(example):
    nodes = by_id(example)
    assert len(nodes) == len(example["nodes"]) and max(nodes) == example["last_node_id"]
    links = {link[0]: link for link in example["links"]}
    assert len(links) == len(example["links"]) and max(links) == example["last_link_id"]
    for number, source, output, target, slot, kind in links.values():
        sender, receiver = nodes[source]["outputs"][output], nodes[target]["inputs"][slot]
        assert number in sender["links"] and receiver["link"] == number
        assert sender["type"] == receiver["type"] == kind
    ends = [slot["link"] for node in nodes.values() for slot in node["inputs"]]
    assert sorted(link for link in ends if link is not None) == sorted(links)
    starts = [n for node in nodes.values() for output in node["outputs"] for n in output["links"]]
    assert sorted(starts) == sorted(links)


def test_notes_and_groups_tell_the_way_through_it(example):
    titles = [group["title"] for group in example["groups"]]
    assert titles and all(title.startswith(f"{n}. ") for n, title in enumerate(titles, start=1))
    notes = [node for node in example["nodes"] if node["type"] in NOTES]
    assert [note["title"] for note in notes] == titles
    for note in notes:  # short, and without a value that was not filled in
        (words,) = note["widgets_values"]
        assert len(words) < 600 and "{train" not in words
    for node in example["nodes"]:
        if node["type"] not in NOTES:
            assert any(holds(group["bounding"], node) for group in example["groups"]), node["type"]


def holds(bounds, node):
    left, top, width, height = bounds
    (x, y), (w, h) = node["pos"], node["size"]
    return left <= x and top <= y and x + w <= left + width and y + h <= top + height


def test_nothing_lies_on_something_else(example):
    nodes = example["nodes"]
    for n, one in enumerate(nodes):
        for other in nodes[n + 1 :]:
            beside = any(
                one["pos"][axis] + one["size"][axis] <= other["pos"][axis]
                or other["pos"][axis] + other["size"][axis] <= one["pos"][axis]
                for axis in (0, 1)
            )
            assert beside, (one["type"], other["type"])


def lacking(example, info):
    """Nodes of newer versions of ComfyUI than this one."""
    core = {n["type"] for n in example["nodes"] if n["properties"]["cnr_id"] == "comfy-core"}
    return sorted(core - set(info) - set(NOTES))


def assert_same_slots(node, found, expected):
    """Of a node of the host, other versions may have more or fewer behind those that it has."""
    if node["properties"]["cnr_id"] == "comfy-core":
        both = min(len(found), len(expected))
        found, expected = found[:both], expected[:both]
    assert found == expected


@pytest.mark.server
def test_every_node_is_there_with_values_in_the_order_of_its_schema(example, server):
    info = server.client.object_info()
    if lacking(example, info):
        pytest.skip(f"this ComfyUI has no {', '.join(lacking(example, info))}")
    for node in example["nodes"]:
        if node["type"] in NOTES:
            continue
        assert node["type"] in info
        names = [slot["name"] for slot in node["inputs"]]
        assert_same_slots(node, names, [name for name, _ in sockets(info[node["type"]], names)])
        outputs = [slot["name"] for slot in node["outputs"]]
        assert_same_slots(node, outputs, info[node["type"]]["output_name"])
        expected = [
            type(d) for _, default, more in widgets(info[node["type"]]) for d in (default, *more)
        ]
        found = [type(value) for value in node["widgets_values"]]
        assert [float if t is int else t for t in found] == [
            float if t is int else t for t in expected
        ]


@pytest.mark.server
def test_the_files_are_as_the_tool_writes_them(server):
    """So notes and widgets say the same numbers, and all inputs of the nodes are there."""
    if checkout_version(server.host) != VERSION:
        pytest.skip(f"the examples are written with the nodes of ComfyUI {VERSION}")
    info = server.client.object_info()
    for path, draft in drafts().items():
        found = path.read_text(encoding="utf-8")
        if not lacking(json.loads(found), info):
            assert found == written(draft, info), "run python tools/run.py make_examples"


@pytest.mark.server
def test_the_face_example_runs(server):
    """On a tiny random model, with small pictures and few steps."""
    client = server.client
    example = json.loads((FOLDER / f"{FACE}.json").read_text(encoding="utf-8"))
    prompt = to_api(example, client.object_info())
    set_inputs(prompt, "CheckpointLoaderSimple", ckpt_name="tiny_sd1.safetensors")
    set_inputs(prompt, "LoadImage", image=client.upload_image("drawn-face.png", draw_face()))
    small = {"resolution": 64, "batch_size": 2, "preview_every": 1}
    every_time = {"preset": "custom", "steps": 3, "resume": False}
    set_inputs(prompt, "PersonalizeTrainCrossInit", **small, **every_time)
    set_inputs(prompt, "EmptyLatentImage", width=128, height=128)
    set_inputs(prompt, "KSampler", steps=10)
    run = client.run(prompt)
    assert any("concepts" in output for output in run.outputs.values())
    (file,) = [f for f in run.files("images") if f["type"] == "output"]
    assert server.client.fetch(file).startswith(b"\x89PNG")


@pytest.mark.server
@pytest.mark.parametrize("name", LARGE)
def test_the_examples_for_sdxl_run(name, server):
    """On the tiny SDXL at 64 pixels, two steps of each kind, with the miniature's vision encoder
    and without the masks of SAM 3, which no test has."""
    client, info = server.client, server.client.object_info()
    example = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if lacking(example, info):
        pytest.skip(f"this ComfyUI has no {', '.join(lacking(example, info))}")
    prompt = to_api(example, info)
    set_inputs(prompt, "LoadImage", image=client.upload_image("drawn-face.png", draw_face()))
    for node in prompt.values():
        small = SHORT | {"resolution": 64, "width": 64, "height": 64, "preset": "custom"}
        node["inputs"] |= {k: v for k, v in small.items() if k in node["inputs"]}
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = "tiny_sdxl.safetensors"
    (vision,) = info["MiniatureLoadVision"]["input"]["required"]["clip_name"][1]["options"]
    for key in nodes_of_type(prompt, "CLIPVisionLoader"):
        prompt[key] = {"class_type": "MiniatureLoadVision", "inputs": {"clip_name": vision}}
    for key in nodes_of_type(prompt, "SAM3_Detect"):
        whole = {"value": 1.0, "width": 256, "height": 256}
        prompt["mask"] = {"class_type": "SolidMask", "inputs": whole}
        pictures = range(len(nodes_of_type(prompt, "LoadImage")))
        masks = {f"inputs.input{n}": ["mask", 0] for n in pictures}
        prompt[key] = {"class_type": "CreateList", "inputs": masks}
    run = client.run(prompt)
    assert any("concepts" in output for output in run.outputs.values())
    (file,) = [f for f in run.files("images") if f["type"] == "output"]
    with Image.open(io.BytesIO(client.fetch(file))) as drawn:
        assert drawn.size == (64, 64)


@pytest.mark.parametrize("name", LARGE)
def test_the_examples_for_sdxl_are_set_for_it(name):
    example = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    other = json.loads((FOLDER / f"{LARGE[name].shown_by}.json").read_text(encoding="utf-8"))
    assert [node["type"] for node in example["nodes"]] == [node["type"] for node in other["nodes"]]
    loaded = [n for n in example["nodes"] if n["type"] == "CheckpointLoaderSimple"]
    (hint,) = loaded[0]["properties"]["models"]
    assert loaded[0]["widgets_values"] == [hint["name"]] == ["sd_xl_base_1.0.safetensors"]
    (latent,) = [n for n in example["nodes"] if n["type"] == "EmptyLatentImage"]
    assert latent["widgets_values"][:2] == [1024, 1024]
    (train,) = [n for n in example["nodes"] if n["type"].startswith("PersonalizeTrain")]
    assert 512 not in train["widgets_values"]
    presets = [value for value in train["widgets_values"] if value == "sdxl"]
    assert len(presets) == (train["type"] != "PersonalizeTrainCatVersion")


@pytest.mark.server
@pytest.mark.parametrize("path", SMALL, ids=lambda p: p.stem)
def test_the_miniature_examples_run(path, server):
    """On the real weights of the miniature, with two training steps and two of sampling."""
    client = server.client
    for needed in NEEDED.get(path.stem, ()):
        run_shortened(client, needed)
    prompt, run = run_shortened(client, path.stem)
    saved = any(node["class_type"] == "PersonalizeSaveConcept" for node in prompt.values())
    assert any("concepts" in output for output in run.outputs.values()) == saved
    files = [f for f in run.files("images") if f["type"] == "output"]
    assert len(files) >= sum(node["class_type"] == "SaveImage" for node in prompt.values())
    assert all(client.fetch(file).startswith(b"\x89PNG") for file in files)
    told = [
        json.loads(text) for output in run.outputs.values() for text in output.get("scores", ())
    ]
    scored = sum(node["class_type"] == "PersonalizeEvaluate" for node in prompt.values())
    assert [list(one["means"]) for one in told] == [["CLIP-T", "CLIP-I", "CLIP-I(FG)"]] * scored


SHORT = {"steps": 2, "preview_every": 0, "prior_weight": 0.0, "batch_size": 1}


def run_shortened(client, name):
    """The prompt with all that takes time made small, and its run. What another one needs is run
    once: then the host's cache answers."""
    example = json.loads((MINIATURE / f"{name}.json").read_text(encoding="utf-8"))
    prompt = to_api(example, client.object_info())
    for node in prompt.values():
        node["inputs"] |= {k: v for k, v in SHORT.items() if k in node["inputs"]}
    return prompt, client.run(prompt)


def test_a_growing_input_has_a_socket_for_each_connection():
    schema = {
        "input_order": {"required": ["inputs", "size", "clip"]},
        "input": {
            "required": {
                "inputs": ["COMFY_AUTOGROW_V3", {}],
                "size": ["INT", {}],
                "clip": ["CLIP", {}],
            }
        },
    }
    linked = ["inputs.input0", "inputs.input1", "clip"]
    assert list(sockets(schema, linked)) == [
        ("inputs.input0", ANY), ("inputs.input1", ANY), ("clip", "CLIP"),
    ]  # fmt: skip


def test_the_swap_takes_pose_and_background_of_different_pictures():
    example = json.loads((FOLDER / "4 Swap pose and place.json").read_text("utf-8"))
    texts = [n["widgets_values"][0] for n in example["nodes"] if n["type"] == "CLIPTextEncode"]
    assert any("<my-dog:pose2>" in text and "<my-dog:background1>" in text for text in texts)


def test_two_faces_are_drawn_with_one_prompt():
    """Both are known where it is encoded, in either pack; the miniature has two faces, too."""
    for folder in (FOLDER, MINIATURE):
        example = json.loads((folder / "1c Two faces in one prompt.json").read_text("utf-8"))
        kinds = [node["type"] for node in example["nodes"]]
        assert kinds.count("PersonalizeTrainCrossInit") == 2
        assert kinds.count("PersonalizeApplyConcept") == 2
        texts = [n["widgets_values"][0] for n in example["nodes"] if n["type"] == "CLIPTextEncode"]
        assert any("<me> person" in text and "<you> person" in text for text in texts)
    given = [n["widgets_values"] for n in example["nodes"] if n["type"] == "MiniatureSubject"]
    assert len(given) == 2 and given[0] != given[1]


def test_styles_are_asked_for_as_the_paper_draws():
    """On SD2.1-base, 50 steps of DPM-Solver++ at guidance 7.5, with illustrations in training."""
    example = json.loads((FOLDER / "1d My face in other styles.json").read_text("utf-8"))
    values = {node["type"]: node["widgets_values"] for node in example["nodes"]}
    assert values["CheckpointLoaderSimple"] == [FACE_CHECKPOINT]
    prompts, *others = values["PersonalizeCompare"]
    assert prompts.count("{}") == 4 and {50, 7.5, "dpmpp_2m"} <= set(others)
    assert "person" in values["PersonalizeTrainCrossInit"]


def test_what_is_found_in_the_pictures_is_typed_once():
    example = json.loads((FOLDER / "4 Swap pose and place.json").read_text("utf-8"))
    (word,) = [n["id"] for n in example["nodes"] if n["type"] == "PrimitiveStringMultiline"]
    ends = [link[3:5] for link in example["links"] if link[1] == word]
    fed = {(by_id(example)[n]["type"], by_id(example)[n]["inputs"][s]["name"]) for n, s in ends}
    assert fed == {("CLIPTextEncode", "text"), ("PersonalizeTrainDETEX", "class_word")}


def test_every_template_has_its_miniature_unless_it_needs_an_encoder():
    missing = {path.stem for path in EXAMPLES} - {path.stem for path in SMALL} - set(LARGE)
    assert not missing or not (WEIGHTS / ENCODER).is_file()
    assert all(name in ELITE for name in missing)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_a_template_has_a_thumbnail(path):
    """Drawn by python tools/run.py make_thumbnails."""
    file = path.with_suffix(".jpg")
    with Image.open(file) as picture:
        assert (picture.format, picture.size) == ("JPEG", SIZE)
    assert file.stat().st_size < 100_000


def test_a_thumbnail_shows_what_was_learned_from_and_what_was_drawn():
    red, blue = (Image.new("RGB", (128, 128), colour) for colour in ("red", "blue"))
    sheet = thumbnail([red] * 4, [blue, blue])
    assert sheet.size == SIZE
    assert sheet.getpixel((80, 470)) == (255, 0, 0) and sheet.getpixel((630, 240)) == (0, 0, 255)
    assert sheet.getpixel((240, 20)) == BACKGROUND
    report = Image.new("RGB", (960, 690), "red")
    assert thumbnail([], [report], PAPER).getpixel((320, 2)) == PAPER


@pytest.mark.parametrize("name", NEEDED)
def test_the_first_note_names_the_examples_that_are_needed(name):
    for folder in (FOLDER, MINIATURE):
        example = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        notes = [node for node in example["nodes"] if node["type"] in NOTES]
        first = notes[0]["widgets_values"][0]
        assert all(needed in first for needed in NEEDED[name])


def test_a_thumbnail_is_drawn_after_the_examples_that_it_needs():
    assert in_order([]) == SMALL
    for name, needed in NEEDED.items():
        assert [path.stem for path in in_order([name])] == [*needed, name]
    assert [path.stem for path in in_order([FACE])] == [FACE]


def test_values_that_do_not_fit_the_schema_are_refused():
    schema = {
        "input_order": {"required": ["model", "seed"]},
        "input": {
            "required": {
                "model": ["MODEL"],
                "seed": ["INT", {"default": 3, "control_after_generate": True}],
            }
        },
    }
    node = {"id": 7, "type": "Draw", "inputs": [{"name": "model", "link": 1}]}
    saved = {
        "links": [[1, 2, 0, 7, 0, "MODEL"]],
        "nodes": [node | {"widgets_values": [5, "fixed"]}],
    }
    assert to_api(saved, {"Draw": schema}) == {
        "7": {"class_type": "Draw", "inputs": {"model": ["2", 0], "seed": 5}}
    }
    saved["nodes"] = [node | {"widgets_values": [5]}]
    with pytest.raises(WorkflowError, match="Draw has 1 widget values for: seed"):
        to_api(saved, {"Draw": schema})
    with pytest.raises(WorkflowError, match="Draw: no such node"):
        to_api(saved, {})


def test_a_bypassed_node_lets_through_what_goes_into_it():
    image = {"type": "IMAGE", "name": "image"}
    saved = {
        "links": [[1, 5, 0, 6, 0, "IMAGE"], [2, 6, 0, 7, 0, "IMAGE"]],
        "nodes": [
            {"id": 6, "type": "Crop", "mode": 4, "inputs": [image | {"link": 1}]}
            | {"outputs": [image | {"links": [2]}]},
            {"id": 7, "type": "Save", "inputs": [image | {"link": 2}]},
        ],
    }
    schema = {"input_order": {"required": ["image"]}, "input": {"required": {"image": ["IMAGE"]}}}
    assert to_api(saved, {"Save": schema}) == {
        "7": {"class_type": "Save", "inputs": {"image": ["5", 0]}}
    }


def test_a_connection_from_nowhere_is_left_out():
    """From a muted node, and through a bypassed one that nothing goes into."""
    image = {"type": "IMAGE", "name": "image"}
    schema = {"input_order": {"required": ["image"]}, "input": {"required": {"image": ["IMAGE"]}}}
    for before in ({"mode": 2, "inputs": []}, {"mode": 4, "inputs": [image | {"link": None}]}):
        saved = {
            "links": [[2, 6, 0, 7, 0, "IMAGE"]],
            "nodes": [
                {"id": 6, "type": "Crop", "outputs": [image | {"links": [2]}], **before},
                {"id": 7, "type": "Save", "inputs": [image | {"link": 2}]},
            ],
        }
        assert to_api(saved, {"Save": schema}) == {"7": {"class_type": "Save", "inputs": {}}}


@pytest.mark.server
def test_the_host_serves_the_examples_and_the_help_pages(server):
    listed = json.loads(server.client.get("/api/workflow_templates"))["personalize"]
    assert {path.stem for path in EXAMPLES} <= set(listed)
    for path in EXAMPLES:
        address = f"/api/workflow_templates/personalize/{quote(path.name)}"
        served = server.client.get(address)
        assert served == path.read_bytes()
    for node_id in ("PersonalizeTrainCrossInit", "PersonalizeApplyConcept"):
        page = server.client.get(f"/extensions/personalize/docs/{node_id}.md").decode()
        assert page.startswith("# ")
