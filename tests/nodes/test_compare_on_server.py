"""Compare Concepts over HTTP: its growing socket, and pictures equal to those of stock nodes."""

import io

import numpy as np
import pytest
import torch
from personalize.concepts.concept import Concept
from personalize.concepts.files import save_concept
from personalize.concepts.methods import TEXTUAL_INVERSION
from personalize.tests.test_end_to_end import applied, base, node, sampling
from PIL import Image

pytestmark = pytest.mark.server


def test_concepts_from_two_loaders_are_drawn_as_stock_nodes_do(server):
    names = []
    for number in range(2):
        word = torch.randn(1, 64, generator=torch.Generator().manual_seed(number))
        concept = Concept(TEXTUAL_INVERSION, "sd1", 64, "<it>", "ball", {"": word})
        names.append(f"compared-{number}.safetensors")
        save_concept(concept, server.base_directory / "output" / "concepts" / names[-1])
    loads = {
        f"load{n}": node("PersonalizeLoadConcept", concept_name=name)
        for n, name in enumerate(names)
    }
    compare = node(
        "PersonalizeCompare",
        model=["base", 0],
        clip=["base", 1],
        vae=["base", 2],
        **{f"concepts.concept{n}": [load, 0] for n, load in enumerate(loads)},
        prompts="a photo of {}",
        strengths="1",
        sample_seed=5,
        steps=4,
        cfg=3.0,
        resolution=64,
    )
    keep = node("SaveImage", images=["compare", 1], filename_prefix="compared")
    workflow = {**base(), **loads, "compare": compare, "save_compared": keep}
    for n, load in enumerate(loads):
        workflow |= applied([load, 0], key=f"apply{n}")
        models = (f"apply{n}", 0), (f"apply{n}", 1)
        workflow |= sampling("a photo of <it>", *models, key=f"draw{n}")
    run = server.client.run(workflow)
    shown = {
        key: [picture(server, f) for f in out.get("images", ())] for key, out in run.outputs.items()
    }
    (report,) = shown["compare"]
    assert report.shape[0] > 2 * 64 and report.shape[1] > 64
    for n, drawn in enumerate(shown["save_compared"]):
        assert np.array_equal(drawn, shown[f"draw{n}_save"][0])


def picture(server, file):
    return np.asarray(Image.open(io.BytesIO(server.client.fetch(file))).convert("RGB"))
