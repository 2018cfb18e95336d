"""What other programs learned, in the layouts they write: the vectors are those of `embedding:`."""

import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from personalize.concepts import files, methods
from personalize.concepts.bases import BASES
from personalize.concepts.cards import card_of, read_card
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.importers.diffusers import by_word
from safetensors.torch import save_file

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
OFFICIAL = SHARED / "data" / "official"
CASES = SHARED / "cases" / "embeddings"


def load_concept(path, name=None, token=""):
    """The concept, whose card says the same when no more than headers are read."""
    concept = files.load_concept(path, name, token)
    if not token:
        assert read_card(path, name or path.name) == card_of(concept)
    return concept


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def a1111(vectors, **more):
    """As AUTOMATIC1111's trainer writes it."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(vectors)} | more,
        "name": "cat-toy",
        "step": 1500,
    }


def write(content, path):
    save = save_file if path.suffix in (".safetensors", ".sft") else torch.save
    save(content, path)
    return path


ONE, ROWS, SD2 = random(768), random(3, 768), random(2, 1024)
CLIP_G = random(3, 1280)
XL = torch.cat([ROWS, CLIP_G], dim=1)
LORA = {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": random(4, 768)}

# What the file holds, the base and placeholder that it gives, and its vectors. The file is called
# "my file", which a word without a name of its own takes.
PICKLED = {
    "diffusers, one vector": ({"<cat-toy>": ONE}, "sd1", "<cat-toy>", ONE),
    "diffusers, rows": ({"<cat-toy>": SD2}, "sd2", "<cat-toy>", SD2),
    "diffusers, half": ({"<cat-toy>": ROWS.half()}, "sd1", "<cat-toy>", ROWS.half()),
    "diffusers, gradient": ({"<cat>": ROWS.clone().requires_grad_()}, "sd1", "<cat>", ROWS),
    "diffusers, a count of steps": ({"<cat>": ONE, "step": torch.tensor(9)}, "sd1", "<cat>", ONE),
    "diffusers, a mark": ({"<cat>": ONE, "done": torch.ones(1)}, "sd1", "<cat>", ONE),
    "ordered": (OrderedDict({"<cat-toy>": ONE}), "sd1", "<cat-toy>", ONE),
    "bare token": ({"cat toy": ONE}, "sd1", "<cat-toy>", ONE),
    "InvokeAI": ({"*": ROWS}, "sd1", "<my-file>", ROWS),
    "A1111": (a1111(ROWS), "sd1", "<my-file>", ROWS),
    "A1111 for SD2": (a1111(SD2), "sd2", "<my-file>", SD2),
    "A1111 with two terms": (a1111(ROWS, other=SD2), "sd1", "<my-file>", ROWS),
    "kohya": ({"emb_params": ROWS}, "sd1", "<my-file>", ROWS),
    "A1111 for SDXL": ({"clip_l": ROWS, "clip_g": CLIP_G}, "sdxl", "<my-file>", XL),
    "list of one": ([{"cat": ROWS}], "sd1", "<cat>", ROWS),
    "list, a count of steps": ([{"cat": ROWS}, {"step": torch.tensor(9)}], "sd1", "<cat>", ROWS),
    "list": (
        [{"cat": ROWS}, {"dog": ONE}],
        "sd1",
        "<my-file>",
        torch.cat([ROWS, ONE[None]]),
    ),
}
SAFE = {
    "the host's": ({"clip_l": ROWS}, "sd1", "<my-file>", ROWS),
    "the host's for SD2": ({"clip_h": SD2}, "sd2", "<my-file>", SD2),
    "the host's for SDXL": ({"clip_g": CLIP_G, "clip_l": ROWS}, "sdxl", "<my-file>", XL),
    "OneTrainer for SDXL": (
        {"clip_g": CLIP_G, "clip_l": ROWS, "clip_g_out": CLIP_G + 1, "clip_l_out": ROWS + 1},
        "sdxl",
        "<my-file>",
        XL,
    ),
    "cog": ({"text_encoders_0": ROWS, "text_encoders_1": CLIP_G}, "sdxl", "<my-file>", XL),
    "in a LoRA for SDXL": (
        {"bundle_emb.cat.clip_l": ROWS, "bundle_emb.cat.clip_g": CLIP_G} | LORA,
        "sdxl",
        "<cat>",
        XL,
    ),
    "kohya": ({"emb_params": ROWS}, "sd1", "<my-file>", ROWS),
    "kohya for SD2": ({"emb_params": SD2}, "sd2", "<my-file>", SD2),
    "bf16": ({"emb_params": ROWS.bfloat16()}, "sd1", "<my-file>", ROWS.bfloat16()),
    "fp8": (
        {"emb_params": ROWS.to(torch.float8_e4m3fn)},
        "sd1",
        "<my-file>",
        ROWS.to(torch.float8_e4m3fn),
    ),
    "one more dimension": ({"emb_params": ROWS[None]}, "sd1", "<my-file>", ROWS),
    "one row": ({"<cat>": ONE[None]}, "sd1", "<cat>", ONE),
    "a prompt full": ({"<cat>": random(75, 768)}, "sd1", "<cat>", random(75, 768)),
    "diffusers": ({"<cat-toy>": ONE}, "sd1", "<cat-toy>", ONE),
    "diffusers, a count of steps": ({"a": torch.tensor(9), "<cat>": ONE}, "sd1", "<cat>", ONE),
    "OneTrainer": ({"emp_params": ROWS}, "sd1", "<my-file>", ROWS),
    "OneTrainer with outputs": (
        {"emp_params": ROWS, "emp_params_out": random(3, 768, seed=1)},
        "sd1",
        "<my-file>",
        ROWS,
    ),
    "in a LoRA": ({"bundle_emb.cat toy.clip_l": ROWS} | LORA, "sd1", "<cat-toy>", ROWS),
    "in a LoRA with outputs": (
        {"bundle_emb.a.cat.clip_l": ROWS, "bundle_emb.a.cat.clip_l_out": ROWS + 1} | LORA,
        "sd1",
        "<a.cat>",
        ROWS,
    ),
    "in a LoRA for SD2": ({"bundle_emb.cat.clip_h": SD2} | LORA, "sd2", "<cat>", SD2),
    "in a LoRA, any encoder": (
        {"bundle_emb.a.cat.string_to_param.*": ROWS} | LORA,
        "sd1",
        "<a.cat>",
        ROWS,
    ),
}
LAYOUTS = {f"{name} (pickled)": (".pt", *case) for name, case in PICKLED.items()} | {
    f"{name} (safetensors)": (".safetensors", *case) for name, case in SAFE.items()
}

# How the host's own reader differs: it takes the first tensor there is, were it a count of steps.
# Of cog's names it knows none, and takes the first encoder's vectors for both.
NOT_AS_THE_HOST = {
    "diffusers, a count of steps (safetensors)",
    "list, a count of steps (pickled)",
    "cog (safetensors)",
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts(case, tmp_path):
    suffix, content, base, placeholder, vectors = LAYOUTS[case]
    path = write(content, tmp_path / f"my file{suffix}")
    concept = load_concept(path, f"animals/{path.name}")
    assert (concept.base, concept.placeholder) == (base, placeholder)
    assert concept.method is methods.TEXTUAL_INVERSION
    assert concept.words[""].dtype == torch.float32
    assert torch.equal(concept.words[""], vectors.detach().float().view(-1, concept.text_width))
    assert concept.training["imported_from"] == path.name


@pytest.mark.host
@pytest.mark.parametrize("case", sorted(LAYOUTS.keys() - NOT_AS_THE_HOST))
def test_the_host_reads_the_same_vectors(case, tmp_path):
    suffix, content, *_ = LAYOUTS[case]
    path = write(content, tmp_path / f"my file{suffix}")
    assert_as_the_host(load_concept(path), path)


def assert_as_the_host(concept, path):
    """Vectors as `embedding:` has them: the first parts of a word whose parts have own names."""
    from comfy.sd1_clip import load_embed

    base = BASES[concept.base]
    for (key, width), ours in zip(
        base.encoders, base.split(concept.words[""]).values(), strict=True
    ):
        theirs = load_embed(path.name, str(path.parent), width, key)
        theirs = theirs.detach().float().view(-1, width)
        assert torch.equal(ours[: len(theirs)], theirs)


LEFT_OUT = {
    "OneTrainer with outputs (safetensors)": ["emp_params_out"],
    "OneTrainer for SDXL (safetensors)": ["clip_g_out", "clip_l_out"],
    "in a LoRA with outputs (safetensors)": ["clip_l_out"],
    "the host's (safetensors)": None,
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_left_out_is_told(case, tmp_path):
    _, content, *_ = LAYOUTS[case]
    concept = load_concept(write(content, tmp_path / "cat.safetensors"))
    assert concept.training.get("left_out") == LEFT_OUT[case]


WORDS = {
    "one name": (["my_cat_v2"], {"my_cat_v2": ["my_cat_v2"]}),
    "two names": (["my_cat_v1", "my_dog_v1"], {"my_cat_v1": 1, "my_dog_v1": 1}),
    "parts": (["28017_v1", "28017_v0"], {"28017": ["28017_v0", "28017_v1"]}),
    "twelve parts": (
        [f"cat_v{n}" for n in (10, 2, 11, 0, 1, 3, 4, 5, 6, 7, 8, 9)],
        {"cat": [f"cat_v{n}" for n in range(12)]},
    ),
    "not from 0": (["cat_v1", "cat_v2"], {"cat_v1": 1, "cat_v2": 1}),
    "a gap": (["cat_v0", "cat_v2"], {"cat_v0": 1, "cat_v2": 1}),
    "one from 0": (["cat_v0"], {"cat_v0": 1}),
    "one number twice": (["cat_v0", "cat_v00"], {"cat_v0": 1, "cat_v00": 1}),
    "two words in parts": (
        ["cat_v0", "dog_v1", "cat_v1", "dog_v0"],
        {"cat": ["cat_v0", "cat_v1"], "dog": ["dog_v0", "dog_v1"]},
    ),
    "parts and a name": (["cat_v0", "cat_v1", "dog"], {"cat": ["cat_v0", "cat_v1"], "dog": 1}),
    "diffusers": (["<cat>_1", "<cat>", "<cat>_2"], {"<cat>": ["<cat>", "<cat>_1", "<cat>_2"]}),
    "diffusers from 0": (["<cat>_0", "<cat>_1"], {"<cat>": ["<cat>_0", "<cat>_1"]}),
    "diffusers, a gap": (["<cat>", "<cat>_2"], {"<cat>": 1, "<cat>_2": 1}),
    "versions of one name": (["cat", "cat_v1"], {"cat": 1, "cat_v1": 1}),
}


@pytest.mark.parametrize("case", WORDS)
def test_numbers_count_parts_from_0_without_gaps_or_are_names(case):
    keys, words = WORDS[case]
    assert by_word(keys) == {word: [word] if keys == 1 else keys for word, keys in words.items()}


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_parts_of_a_word_are_its_vectors_in_order(suffix, tmp_path):
    parts = {f"<cat>_{n}": random(768, seed=n) for n in (2, 1)} | {"<cat>": random(1, 768)}
    concept = load_concept(write(parts, tmp_path / f"cat.{suffix}"))
    assert concept.placeholder == "<cat>"
    wanted = torch.stack([random(768), random(768, seed=1), random(768, seed=2)])
    assert torch.equal(concept.words[""], wanted)


@pytest.mark.parametrize(
    ("keys", "method"),
    [
        (["28017_v0", "28017_v1"], methods.CROSS_INIT),
        (["28017_v0", "28017_v1", "28017_v2"], methods.TEXTUAL_INVERSION),
        (["<cat>", "<cat>_1"], methods.TEXTUAL_INVERSION),
    ],
)
def test_two_numbered_versions_are_of_cross_initializations_program(keys, method, tmp_path):
    path = write({key: random(1024) for key in keys}, tmp_path / "cat.bin")
    assert load_concept(path).method is method


def test_the_official_cross_initialization_file():
    path = OFFICIAL / "cross_init_28017_learned_embeds.bin"
    if not path.is_file():
        pytest.skip(f"the authors' file {path.name} is not here")
    concept = load_concept(path)
    assert (concept.method, concept.base, concept.text_width) == (methods.CROSS_INIT, "sd2", 1024)
    assert concept.placeholder == "<28017>"
    norms = concept.words[""].norm(dim=1).tolist()
    assert norms == pytest.approx([32.94, 33.57], abs=0.01)
    stored = torch.load(path, weights_only=True)
    assert torch.equal(concept.words[""], torch.stack([stored["28017_v0"], stored["28017_v1"]]))
    assert dict(concept.training) == {"imported_from": path.name}


SEVERAL = {
    "diffusers": ("bin", {"<cat-toy>": ONE, "<dog>": ROWS}, {"<cat-toy>": ONE, "<dog>": ROWS}),
    "names that end in a number": (
        "safetensors",
        {"my_cat_v1": ONE, "my_dog_v1": ROWS},
        {"my_cat_v1": ONE, "my_dog_v1": ROWS},
    ),
    "words of two base models": ("pt", {"cat": ONE, "dog": SD2}, {"cat": ONE, "dog": SD2}),
    "a bundle": (
        "safetensors",
        {"bundle_emb.cat.clip_l": ONE, "bundle_emb.dog.clip_l": ROWS} | LORA,
        {"cat": ONE, "dog": ROWS},
    ),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_of_several_concepts_the_token_says_which(case, tmp_path):
    suffix, content, words = SEVERAL[case]
    path = write(content, tmp_path / f"pets.{suffix}")
    names = ", ".join(words)
    with pytest.raises(ConceptFileError, match=f"holds 2 concepts: {names}.*into token, such as"):
        load_concept(path)
    for token, vectors in words.items():
        for written in (token, f" {token.strip('<>')} ", f"<{token.strip('<>')}>", token.upper()):
            concept = load_concept(path, token=written)
            assert torch.equal(concept.words[""], vectors.view(-1, concept.text_width))
    with pytest.raises(ConceptFileError, match=f"no concept named <bird>, but {names}. Write one"):
        load_concept(path, token="<bird>")


def test_a_token_that_is_not_in_the_file_is_told_for_one_concept_too(tmp_path):
    path = write({"<cat>": ONE}, tmp_path / "cat.bin")
    assert torch.equal(load_concept(path, token="cat").words[""], ONE[None])
    with pytest.raises(ConceptFileError, match="no concept named dog, but <cat>"):
        load_concept(path, token="dog")
    terms = write(a1111(ROWS, other=SD2), tmp_path / "terms.pt")
    assert torch.equal(load_concept(terms, token="other").words[""], SD2)


HALVES = {
    "the second encoder": ({"clip_g": CLIP_G}, "vectors for clip_g"),
    "diffusers' second file": ({"<cat>": random(1280)}, "vectors of width 1280"),
    "in a LoRA": ({"bundle_emb.cat.clip_g": CLIP_G}, "vectors for clip_g"),
}


@pytest.mark.parametrize("case", HALVES)
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_half_of_a_word_for_sdxl_is_refused(case, suffix, tmp_path):
    content, found = HALVES[case]
    path = write(content, tmp_path / f"cat.{suffix}")
    with pytest.raises(
        ConceptFileError,
        match=rf"'cat.{suffix}' holds {found}, half of a word for Stable Diffusion XL. Expected "
        "vectors for clip_l and clip_g.*Take the whole file; of a pair",
    ):
        load_concept(path)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_diffusers_pair_for_sdxl_is_one_word(suffix, tmp_path):
    path = write({"<cat>": ONE}, tmp_path / f"learned_embeds.{suffix}")
    other = tmp_path / f"learned_embeds_2.{suffix}"
    write({"<dog>": random(1280)}, other)
    assert load_concept(path).base == "sd1"
    write({"<cat>": random(1280)}, other)
    concept = load_concept(path)
    assert (concept.base, concept.placeholder) == ("sdxl", "<cat>")
    assert torch.equal(concept.words[""], torch.cat([ONE, random(1280)])[None])
    assert set(files.files_of(path, path.name)) == {path, other}


def test_cogs_own_name_of_a_file(tmp_path):
    save_file({"text_encoders_0": ROWS, "text_encoders_1": CLIP_G}, tmp_path / "embeddings.pti")
    assert torch.equal(load_concept(tmp_path / "embeddings.pti").words[""], XL)


NO_EMBEDDINGS = {
    "unknown width": ({"cat": random(2, 640)}, r"width 640. Expected 768 .*1024.*take one for"),
    "four dimensions": (
        {"cat": random(2, 3, 4, 768)},
        r"expected the vectors.*\(2, 3, 4, 768\).*Take the embedding",
    ),
    "integers": (
        {"cat": torch.ones(1, 768, dtype=torch.int64)},
        r"expected the vectors.*cat \(int64 \[1, 768\]\). Take a file",
    ),
    "scalar": ({"cat": torch.tensor(1.0)}, r"expected the vectors.*cat \(float32 \[\]\). Take a"),
    "76 vectors": ({"cat": random(76, 768)}, r"1 to 75 vectors.*\(76, 768\)"),
    "76 parts": ({f"cat_v{n}": random(768) for n in range(76)}, r"1 to 75 vectors.*\(76, 768\)"),
    "no vectors": ({"cat": random(0, 768)}, r"1 to 75 vectors.*\(0, 768\)"),
    "NaN": ({"cat": torch.full((1, 768), float("nan"))}, "NaN or infinite.*train it again"),
    "unequal numbers of vectors": (
        {"clip_l": ROWS, "clip_g": random(2, 1280)},
        r"equally many vectors for clip_l and clip_g.*\(3, 768\), \(2, 1280\)",
    ),
    "other widths for SDXL": (
        {"clip_l": random(3, 1280), "clip_g": ROWS},
        r"widths .*1280.*Expected .*'clip_l': 768, 'clip_g': 1280.* for Stable Diffusion XL",
    ),
    "a list for two encoders": (
        {"cat_v0": ROWS, "cat_v1": CLIP_G},
        r"widths \[768, 1280\]. Expected vectors of one width",
    ),
    "unequal parts": (
        {"cat_v0": random(768), "cat_v1": random(1024)},
        r"parts \(cat_v0, cat_v1\).*\[768, 1024\]. Expected vectors of one width.*take the whole",
    ),
    "Flux": (
        {"clip_l": ROWS, "t5xxl": random(3, 4096)},
        "vectors for clip_l, t5xxl. Expected .*clip_l, clip_h, clip_l and clip_g.*take one for",
    ),
    "Flux in a LoRA": (
        {"bundle_emb.cat.clip_l": ROWS, "bundle_emb.cat.t5": random(3, 4096)},
        "clip_l, t5",
    ),
    "another base in a LoRA": (
        {"bundle_emb.cat.gemma": ROWS},
        "vectors for gemma. Expected vectors for one of clip_l, clip_h, .*take one for yours",
    ),
    "outputs for SDXL alone": ({"clip_l_out": ROWS, "clip_g_out": CLIP_G}, "gives out.*clip_g_out"),
    "outputs alone": (
        {"emp_params_out": ROWS},
        "a text encoder gives out for a word .emp_params_out.*Expected.*Train it again",
    ),
    "a LoRA": (
        {f"lora_unet_{n}.lora_up.weight": random(4, 4) for n in range(9)},
        r"is a LoRA and no embedding: expected .*lora_unet_0.*\.\.\.\. To use it.*Load LoRA",
    ),
    "a VAE": ({"decoder.conv_in.weight": random(4, 4)}, "is a VAE.*Load VAE"),
    "an ELITE mapper": ({"mapping_0.0.weight": random(4, 4)}, "part of an ELITE.*models/elite"),
    "a text encoder": (
        {"text_model.embeddings.token_embedding.weight": random(4, 768)},
        "is a text encoder.*Load CLIP",
    ),
    "a network": ({"fc.weight": random(4, 768), "fc.bias": random(768)}, "is a network.*made for"),
    "a word beside other weights": (
        {"<cat>": ONE, "table": random(100, 768)},
        r"expected the vectors.*<cat> \(float32 \[768\]\), table \(float32 \[100, 768\]\)",
    ),
    "much else": (
        {"one": random(768), "two": random(3, 5), "three": random(7)},
        r"expected the vectors.*found one \(float32 \[768\]\), three .*two .*Take a file",
    ),
    "nothing": ({}, "expected the vectors.*a dict without tensors. Take a file"),
}


@pytest.mark.parametrize("case", NO_EMBEDDINGS)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_what_is_no_embedding_is_refused_by_name(case, suffix, tmp_path):
    tensors, message = NO_EMBEDDINGS[case]
    path = write(tensors, tmp_path / f"cat.{suffix}")
    with pytest.raises(ConceptFileError, match=message) as caught:
        load_concept(path)
    assert f"'cat.{suffix}'" in str(caught.value)


def test_a_network_below_state_dict_is_told_for_what_it_is(tmp_path):
    content = {"state_dict": {"model.diffusion_model.out.2.weight": random(4, 4)}, "epoch": 3}
    path = write(content, tmp_path / "cat.ckpt")
    with pytest.raises(ConceptFileError, match="is a checkpoint .*Load Checkpoint"):
        load_concept(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "a list without tensors"),
        ("text", "a str without tensors"),
        (5, "a int without tensors"),
        (None, "a NoneType without tensors"),
        ({"a": 1}, r"a \(int\)"),
        ({}, "a dict without tensors"),
        ({768: torch.ones(1)}, r"768 \(float32 \[1\]\)"),
        (torch.ones(1, 768), r"a bare tensor of shape \(1, 768\), as aesthetic gradients are"),
    ],
)
def test_plain_values_are_no_embedding(content, found, tmp_path):
    path = write(content, tmp_path / "cat.pt")
    with pytest.raises(
        ConceptFileError, match=rf"'cat.pt' is no embedding: expected .*{found}.*Take a"
    ):
        load_concept(path)


# Of the files in shared/cases: the token to ask for, or what a refusal says.
CASE_TOKENS = {"diffusers_two_tokens.bin": "<cat-toy>"}
CASE_REFUSALS = {
    "aesthetic.pt": "bare tensor",
    "learned_embeds_2.safetensors": "half of a word for Stable Diffusion XL",
    "onetrainer_sdxl_outonly.safetensors": "a text encoder gives out for a word .*clip_g_out",
}
CASES_FOR_SDXL = {"learned_embeds.safetensors", "onetrainer_sdxl_out.safetensors"}
HOST_CANNOT = {"a1111_mps.pt", "emb_with_step_tensor.safetensors"}
CUSTOM_DIFFUSION = {"adobe_delta_small.bin", "diffusers_cd_weights.bin"}


def test_shared_cases_that_no_program_could_use_are_refused():
    if not CASES.is_dir():
        pytest.skip("the shared cases are not here")
    for name, message in CASE_REFUSALS.items():
        with pytest.raises(ConceptFileError, match=message):
            load_concept(CASES / name)


@pytest.mark.host
def test_shared_cases_have_the_hosts_vectors():
    if not CASES.is_dir():
        pytest.skip("the shared cases are not here")
    known = re.compile(r"\.(safetensors|pt|bin|ckpt)$", re.IGNORECASE)
    names = {path.name for path in CASES.iterdir() if known.search(path.name)}
    others = CASE_REFUSALS.keys() | CUSTOM_DIFFUSION
    assert len(names - others) > 15
    for name in sorted(names - others):
        concept = load_concept(CASES / name, token=CASE_TOKENS.get(name, ""))
        assert concept.base == ("sdxl" if name in CASES_FOR_SDXL else "sd1")
        if name not in HOST_CANNOT | {"learned_embeds.safetensors"}:
            assert_as_the_host(concept, CASES / name)
