"""Names, prompts and requests as nobody writes them."""

import json
import random
import unicodedata
from functools import partial
from pathlib import Path

import folder_paths
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.files import load_concept, save_concept
from personalize.host.card_pictures import is_taken, write_pictures
from personalize.host.folders import save_new
from personalize.host.shelf import rename, shelf, to_trash
from personalize.nodes.live_routes import LIVE_ROUTE, add_live_routes
from personalize.nodes.routes import CONCEPTS_ROUTE, add_routes
from personalize.samplers.apply import apply_concept
from personalize.tests.fuzz.campaign import told
from personalize.tests.nodes import routes_client

pytestmark = [pytest.mark.host, pytest.mark.slow]


def drawn(strategy, rng: random.Random, count: int) -> list:
    """Examples of a strategy, from a seed."""
    found = []

    def note(example):
        found.append(example)

    run = given(strategy)(note)
    run = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(run)
    seed(rng.randrange(2**32))(run)()
    return found


RESERVED = ["CON", "nul.txt", "LPT1", "COM²", "aux ", "..", ".", "~", "c:x", "a" * 300, "\ud800"]
RESERVED += ["dog", "cat", "dog.pictures", "dog.webp"]
PARTS = st.text(max_size=12) | st.sampled_from(RESERVED)
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join) | PARTS.map(lambda p: f"..\\{p}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "output" / "concepts"
    folder.mkdir(parents=True)
    known = {"concepts": ([str(folder)], {".safetensors", ".pt", ".bin"})}
    monkeypatch.setattr(
        folder_paths, "folder_names_and_paths", {**folder_paths.folder_names_and_paths, **known}
    )
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return folder


PICTURES = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)


def concept(text: str) -> Concept:
    word = torch.full((1, 64), float(len(text)))
    return Concept(methods.CROSS_INIT, "sd1", 64, "<me>", text, words={"": word})


def contents(folder: Path) -> list[str]:
    """The class word of every concept, which tells it from the others, trash and all."""
    return sorted(load_concept(path).class_word for path in folder.rglob("*.safetensors"))


def test_names(campaign, folder):
    """Saved, renamed and thrown away under any name: nothing is lost, nothing leaves the folder."""
    outside = folder.parent.parent
    made: list[str] = []

    def try_one(rng: random.Random) -> None:
        for name in drawn(NAMES, rng, 10):
            text = f"subject {len(made)}"
            save = partial(save_concept, concept(text), new=True)
            path = told(partial(save_new, folder, name, save, is_taken=is_taken))
            if path is not None:
                made.append(text)
                told(partial(write_pictures, path, None, PICTURES))
            entries = shelf()
            if entries:
                one = rng.choice(entries)["name"]
                told(partial(to_trash, one) if rng.random() < 0.3 else partial(rename, one, name))
        assert contents(folder) == sorted(made)
        assert {path.name for path in outside.iterdir()} == {"output"}
        assert {path.name for path in folder.parent.iterdir()} == {"concepts"}

    campaign.run("names", try_one).check()


WORDS = ["<me>", "<me:pose1>", "<me:x>", "<cat>", "<you>", "a", "photo", "of", "(", ")", ":1.2"]
WORDS += [":0", ":-3", ":nan", ":1e99", "\\(", "\\", "embedding:", "embedding:<me>", "embedding:a"]
WORDS += ["<", ">", "<me", "me>", "<<me>>", "<me><me>", ",", "\n", "\x00", "猫", "🦊", "\u202e"]
WORDS += ["BREAK", "AND", "{a|b}", "__a__", "[a:b:0.5]", "x" * 500]
PROMPTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=40).map(" ".join)
PROMPTS |= st.lists(st.sampled_from(WORDS), max_size=400).map("".join)


def test_prompts(campaign, tiny_sd1):
    """Whatever stock encoding takes, ours takes; a prompt that names no concept is bit-equal."""
    generator = torch.Generator().manual_seed(1)
    words = {"": torch.randn(3, 64, generator=generator)}
    me = Concept(
        methods.DETEX, "sd1", 64, "<me>", "dog",
        words=words | {"pose1": torch.randn(1, 64, generator=generator)},
    )  # fmt: skip
    cat = Concept(methods.TEXTUAL_INVERSION, "sd1", 64, "<cat>", "cat", words=words)

    @torch.inference_mode()
    def encode(clip, text):
        return clip.encode_from_tokens(clip.tokenize(text))

    def try_one(rng: random.Random) -> None:
        model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, me, rng.choice([0, 0.5, 1, 2.5]))
        _, clip = apply_concept(model, clip, cat, rng.choice([0.3, 1]))
        for text in drawn(PROMPTS, rng, 10):
            try:
                stock = encode(tiny_sd1.clip, text)
            except Exception:
                continue  # a prompt that the host itself stumbles over
            ours = encode(clip, text)
            # weights such as 1e99 are the host's own to refuse
            assert torch.isfinite(ours).all() or not torch.isfinite(stock).all() or ":" in text
            # placeholders are read with spaces, in capitals and in full width, too
            letters = "".join(unicodedata.normalize("NFKC", text).split()).casefold()
            if not any(name in letters for name in ("<me", "<cat")):
                assert torch.equal(ours, stock) or not torch.isfinite(stock).all()

    campaign.run("prompts", try_one).check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(["name", "wanted", "prompt", "node", "kind", "step", "workflow"])
BODIES = st.dictionaries(FIELDS, JSON).map(lambda body: json.dumps(body).encode())
BODIES |= st.binary(max_size=60) | st.sampled_from([b"[" * 60_000, b"9" * 60_000, b"x" * 100_000])
TYPES = st.sampled_from(
    ["application/json", "application/json; charset=klingon", "text/plain", "", "x"]
)
PATHS = [f"{CONCEPTS_ROUTE}{end}" for end in ("", "/picture", "/rename", "/delete", "/x")]
PATHS += [f"{LIVE_ROUTE}{end}" for end in ("", "/run", "/preview", "/stop", "/continue")]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    st.sampled_from(PATHS),
    st.dictionaries(FIELDS, TEXTS | st.sampled_from(["9" * 2_000, "²", "../x"]), max_size=3),
    BODIES,
    TYPES,
)


def test_requests(campaign, folder):
    """No request is answered with 500, and none that is no POST of JSON changes anything."""
    save_concept(concept("subject"), folder / "dog.safetensors")

    def add(table):
        add_routes(table)
        add_live_routes(table)

    with routes_client.served(add) as request:

        def try_one(rng: random.Random) -> None:
            before = sorted(folder.rglob("*"))
            for method, path, query, body, kind in drawn(REQUESTS, rng, 20):
                headers = {"Content-Type": kind}
                data = body if method != "GET" else None
                status, _ = request(method, path, params=query, data=data, headers=headers)
                assert status < 500, (method, path, query, body[:100], kind)
                if method != "POST" or not kind.startswith("application/json"):
                    assert sorted(folder.rglob("*")) == before
                before = sorted(folder.rglob("*"))
            assert contents(folder) == ["subject"]

        campaign.run("requests to our routes", try_one).check()
