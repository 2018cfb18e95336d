"""A real server with the pack in custom_nodes."""

import re

import pytest

pytestmark = pytest.mark.server

PACK = "personalize"


def test_the_pack_loads_without_a_warning(server):
    """Nothing of the pack in a line that sounds like trouble, and none of its files in a traceback.

    ComfyUI 0.16 has one of its own, about its database.
    """
    log = server.start_log
    trouble = re.compile(r"warning|error|fail|traceback|exception", re.IGNORECASE)
    lines = [line for line in log.splitlines() if PACK in line.lower() and trouble.search(line)]
    assert not lines, "\n".join(lines)
    frames = [line for line in log.splitlines() if line.lstrip().startswith('File "')]
    assert not [line for line in frames if re.search(rf"custom_nodes[/\\]{PACK}", line)]


def test_the_host_imported_the_pack(server):
    """It tells of each pack how long its import took, and whether it failed."""
    pattern = rf"[\d.]+ seconds( \([^)]*\))?: .*[/\\]{PACK}$"
    (failed,) = re.findall(pattern, server.start_log, re.MULTILINE)
    assert not failed


def test_the_server_knows_every_node(server):
    from personalize.nodes import NODE_CLASS_MAPPINGS

    known = server.client.object_info()
    assert len(NODE_CLASS_MAPPINGS) >= 5
    assert not NODE_CLASS_MAPPINGS.keys() - known.keys()
    for node_id in NODE_CLASS_MAPPINGS:
        info = known[node_id]
        assert info["category"].startswith("personalize/")
        assert info["display_name"]
        assert info["description"]


def test_the_tiny_checkpoints_are_listed(server):
    inputs = server.client.object_info("CheckpointLoaderSimple")["CheckpointLoaderSimple"]["input"]
    names = inputs["required"]["ckpt_name"][0]
    assert {f"tiny_{kind}.safetensors" for kind in ("sd1", "sd2", "sd2v")} <= set(names)


@pytest.mark.parametrize("kind", ["sd1", "sd2v"])
def test_stock_text_to_image(server, kind):
    workflow = text_to_image(f"tiny_{kind}.safetensors", "a photo of a dog")
    seen = []
    run = server.client.run(workflow, seen.append)
    picture = server.client.fetch(run.files("images")[0])
    assert picture.startswith(b"\x89PNG")
    assert {"progress", "executed", "execution_success"} <= {message.kind for message in seen}


def text_to_image(checkpoint, prompt):
    nodes = {
        "base": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        "positive": ("CLIPTextEncode", {"clip": ["base", 1], "text": prompt}),
        "negative": ("CLIPTextEncode", {"clip": ["base", 1], "text": ""}),
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "sample": (
            "KSampler",
            {
                "model": ["base", 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                "seed": 1,
                "steps": 2,
                "cfg": 3.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        ),
        "decode": ("VAEDecode", {"samples": ["sample", 0], "vae": ["base", 2]}),
        "save": ("SaveImage", {"images": ["decode", 0], "filename_prefix": "tiny"}),
    }
    return {
        key: {"class_type": kind, "inputs": dict(inputs)} for key, (kind, inputs) in nodes.items()
    }
