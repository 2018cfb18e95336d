"""The routes as a browser meets them, on a server of their own with no host in it."""

import json

import folder_paths
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.files import save_concept
from personalize.host.card_pictures import write_pictures
from personalize.nodes import NODE_CLASS_MAPPINGS
from personalize.nodes import routes as module
from personalize.nodes.concept import ApplyConcept
from personalize.nodes.routes import CONCEPTS_ROUTE, add_routes, makers
from personalize.tests.nodes import routes_client
from safetensors.torch import save_file

pytestmark = pytest.mark.host


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "concepts"
    known = {"concepts": ([str(folder)], {".safetensors", ".pt", ".bin"})}
    monkeypatch.setattr(
        folder_paths, "folder_names_and_paths", {**folder_paths.folder_names_and_paths, **known}
    )
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    words = {"": torch.ones(1, 64)}
    save_concept(
        Concept(methods.TEXTUAL_INVERSION, "sd1", 64, "<my-dog>", words=words),
        folder / "my-dog.safetensors",
    )
    write_pictures(
        folder / "my-dog.safetensors", None, torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    )
    return folder


@pytest.fixture
def told(monkeypatch):
    events = []
    monkeypatch.setattr(module, "tell_browsers", events.append)
    return events


def ask(method, path, **options):
    return routes_client.ask(add_routes, method, CONCEPTS_ROUTE + path, **options)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_list(folder):
    status, _, content = ask("GET", "")
    assert status == 200
    (entry,) = content["concepts"]
    assert entry["name"] == "my-dog.safetensors"
    assert entry["card"]["placeholder"] == "<my-dog>"
    assert content["uses"]["cross_init"] == [] and "local_strength" in content["uses"]["elite"]
    assert content["uses"]["detex"] == ["own_prompts_only"]
    inputs = {one.id for one in ApplyConcept.GET_SCHEMA().inputs}
    assert inputs.issuperset(name for names in content["uses"].values() for name in names)
    assert content["makers"]["PersonalizeTrainCrossInit"] == {
        "method": "cross_init",
        "method_name": "Cross Initialization",
        "with_class_word": True,
    }


def test_every_node_that_makes_a_concept_is_known():
    outputs = {node_id: node.GET_SCHEMA().outputs for node_id, node in NODE_CLASS_MAPPINGS.items()}
    making = {n for n, some in outputs.items() if "CONCEPT" in [o.get_io_type() for o in some]}
    assert making - {"PersonalizeLoadConcept"} <= set(makers())


@pytest.mark.parametrize("kind", ["thumbnail", "sheet"])
def test_a_picture(kind, folder):
    status, headers, content = ask(
        "GET", "/picture", params={"name": "my-dog.safetensors", "kind": kind}
    )
    assert status == 200 and content[:4] == b"RIFF"
    assert headers["Content-Type"] == "image/webp"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"name": "my-dog.safetensors"},
        {"name": "my-dog.safetensors", "kind": "file"},
        {"name": "../../etc/passwd", "kind": "thumbnail"},
        {"name": "gone.safetensors", "kind": "sheet"},
    ],
)
def test_no_other_picture(params, folder):
    status, _, content = ask("GET", "/picture", params=params)
    assert status == 404 and content["error"]


def test_rename(folder, told):
    body = {"name": "my-dog.safetensors", "wanted": "rex"}
    status, _, content = ask("POST", "/rename", json=body)
    assert (status, content) == (200, {"result": "rex.safetensors"})
    assert files(folder) == ["rex.pictures.webp", "rex.safetensors", "rex.webp"]
    assert told == ["personalize.concepts_changed"]


def test_delete(folder, told):
    status, _, content = ask("POST", "/delete", json={"name": "my-dog.safetensors"})
    assert status == 200 and content["result"].endswith("my-dog.safetensors")
    assert len(files(folder)) == 3 and all(f.startswith(".trash") for f in files(folder))
    assert told == ["personalize.concepts_changed"]


@pytest.mark.parametrize("path", ["/rename", "/delete"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_nothing_but_a_post_changes_anything(method, path, folder, told):
    before = files(folder)
    params = {"name": "my-dog.safetensors", "wanted": "rex"}
    assert ask(method, path, params=params)[0] == 405
    assert files(folder) == before and told == []


@pytest.mark.parametrize("path", ["/rename", "/delete"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": '{"name": "my-dog.safetensors", "wanted": "rex"}'},
        {"data": {"name": "my-dog.safetensors", "wanted": "rex"}},
        {"data": b"{oh no", "headers": {"Content-Type": "application/json"}},
        {"json": ["my-dog.safetensors"]},
        {"json": {"name": 1, "wanted": None}},
        {"json": {}},
    ],
)
def test_a_body_that_is_no_json_of_texts_is_refused(path, options, folder, told):
    before = files(folder)
    status, _, content = ask("POST", path, **options)
    assert status == 400 and "Expected JSON" in content["error"]
    assert files(folder) == before and told == []


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/delete", {"name": "../my-dog.safetensors"}, "There is no concept"),
        ("/rename", {"name": "my-dog.safetensors", "wanted": "../evil"}, "is no file name"),
        ("/rename", {"name": "/etc/passwd", "wanted": "mine"}, "There is no concept"),
    ],
)
def test_what_is_refused_says_why(path, body, message, folder, told):
    before = files(folder)
    status, _, content = ask("POST", path, json=body)
    assert status == 400 and message in content["error"]
    assert files(folder) == before and told == []


def test_without_a_server_there_is_nothing_to_add():
    add_routes(None)


BODIES = {
    "an unknown charset": (b'{"name": "a", "wanted": "b"}', "application/json; charset=klingon"),
    "another charset": ('{"name": "a", "wanted": "b"}'.encode("utf-16"), "application/json"),
    "brackets": (b"[" * 60_000, "application/json"),
    "dictionaries": (b'{"name":' * 8_000, "application/json"),
    "digits": (b'{"name": ' + b"9" * 5_000 + b"}", "application/json"),
    "half a character": (b'{"name": "\\ud800", "wanted": "\\udfff"}', "application/json"),
    "no text": (b'{"name": "\xff", "wanted": "\xfe"}', "application/json"),
    "too long": (b'{"name": "' + b"a" * 200_000 + b'", "wanted": "b"}', "application/json"),
    "nothing": (b"", "application/json"),
    "a zero": (b'{"name": "a\\u0000b", "wanted": "\\u0000"}', "application/json"),
}


@pytest.mark.parametrize("path", ["/rename", "/delete"])
@pytest.mark.parametrize("case", BODIES)
def test_an_odd_body_is_refused_in_a_sentence(case, path, folder, told):
    before = files(folder)
    body, content_type = BODIES[case]
    status, _, content = ask("POST", path, data=body, headers={"Content-Type": content_type})
    assert status == 400 and content["error"].endswith(".")
    assert files(folder) == before and told == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
NAMES = st.text(max_size=30) | st.sampled_from(
    ["my-dog.safetensors", "..", "../a", "CON", "a\x00", "\ud800", "a" * 300, "", ".trash", "a/b"]
)
ASKED = st.dictionaries(st.sampled_from(["name", "wanted", "kind"]), NAMES | JSON)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=ASKED.map(lambda asked: json.dumps(asked).encode()) | st.binary(max_size=60),
    query=st.dictionaries(
        st.sampled_from(["name", "kind"]), st.text(st.characters(exclude_categories=["Cs"]))
    ),
    content_type=st.sampled_from(["application/json", "application/json; charset=x", "text/plain"]),
)
def test_any_request_is_answered(body, query, content_type, folder, told):
    headers = {"Content-Type": content_type}
    with routes_client.served(add_routes) as request:
        for path in ("/rename", "/delete"):
            status, content = request("POST", CONCEPTS_ROUTE + path, data=body, headers=headers)
            assert status == 200 or (status == 400 and json.loads(content)["error"])
        status, content = request("GET", f"{CONCEPTS_ROUTE}/picture", params=query)
        assert status == 200 or (status == 404 and json.loads(content)["error"])
        assert request("GET", CONCEPTS_ROUTE)[0] == 200
    assert {path.name for path in folder.parent.iterdir()} == {"concepts"}


def test_the_trash_is_listed_restored_and_a_concept_shared(folder, told):
    status, headers, content = ask("GET", "/share?name=my-dog.safetensors")
    assert status == 200 and content.startswith(b"PK")
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''my-dog.zip"
    assert ask("GET", "/share?name=nobody")[0] == 404
    before = files(folder)
    assert ask("POST", "/delete", json={"name": "my-dog.safetensors"})[0] == 200
    (entry,) = ask("GET", "/trash")[2]["trash"]
    assert entry["name"] == "my-dog.safetensors"
    assert ask("POST", "/restore", json={"name": "nobody"})[0] == 400
    status, _, content = ask("POST", "/restore", json={"name": entry["name"]})
    assert (status, content["result"]) == (200, "my-dog.safetensors")
    assert files(folder) == before and len(told) == 2


def test_the_base_of_a_checkpoint_is_told_by_its_header(tmp_path, monkeypatch):
    known = {"checkpoints": ([str(tmp_path)], {".safetensors", ".ckpt"})}
    monkeypatch.setattr(
        folder_paths, "folder_names_and_paths", {**folder_paths.folder_names_and_paths, **known}
    )
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    for name, width in {"sd1": 768, "sd2": 1024, "sdxl": 2048, "refiner": 1280}.items():
        save_file({key: torch.ones(1, width)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    (tmp_path / "old.ckpt").write_bytes(b"a pickle")
    save_file({key: torch.ones(1, 768)}, tmp_path.parent / "outside.safetensors")

    def base(name, kind="checkpoints"):
        status, _, content = ask("GET", "/base", params={"kind": kind, "name": name})
        assert status == 200
        return content["base"]

    for name in ("sd1", "sd2", "sdxl"):
        assert base(f"{name}.safetensors") == name
    for name in ("refiner.safetensors", "broken.safetensors", "old.ckpt", "gone.safetensors", ""):
        assert base(name) == ""
    assert base("../outside.safetensors") == base("sd1.safetensors", "loras") == ""
