"""Crafted descriptions and tensors: a short sentence, whatever stands where."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from personalize.concepts import methods
from personalize.concepts.cards import card_of, read_card
from personalize.concepts.concept import Concept
from personalize.concepts.differences import weight_differences
from personalize.concepts.elite_files import ENCODER_FORMAT, digest_in_file, load_encoder
from personalize.concepts.errors import ConceptFileError, PersonalizeError, shown
from personalize.concepts.files import FORMAT, load_concept, save_concept
from personalize.concepts.schema import MOST_TEXT, json_object
from personalize.concepts.tensor_files import write_tensors

WIDTH = 8
BLOCK = "middle_block.1.transformer_blocks.0"


def part(*shape):
    return torch.ones(shape)


VALID = {
    methods.CROSS_INIT: {"word": part(2, WIDTH)},
    methods.DETEX: {
        "word": part(1, WIDTH),
        "word.pose1": part(1, WIDTH),
        f"difference.{BLOCK}.attn2.to_k": part(4, WIDTH),
        f"difference.{BLOCK}.attn2.to_v.up": part(4, 2),
        f"difference.{BLOCK}.attn2.to_v.down": part(2, WIDTH),
    },
    methods.CATVERSION: {
        "residual.1.key": part(1, WIDTH),
        "residual.1.value": part(1, WIDTH),
        "logit_bias": torch.tensor(1.0),
    },
    methods.ELITE: {
        "word": part(1, WIDTH),
        "local": part(4, WIDTH),
        **{
            f"encoder.{stage}.{BLOCK}.attn2.to_{kind}.weight": part(4, WIDTH)
            for stage in ("global", "local")
            for kind in "kv"
        },
    },
}
RECORD = {
    "steps_taken": 3,
    "config": {"learning_rate": 0.1},
    "encoder": {"name": "mine", "digest": "0" * 64, "vision": [16, 2, 4]},
}


def metadata(made_by, **changes):
    description = {
        "format": FORMAT,
        "method": made_by.key,
        "base": "sd1",
        "text_width": str(WIDTH),
        "placeholder": "<me>",
        "class_word": "dog",
        "training": json.dumps(RECORD),
    }
    return {k: v for k, v in (description | changes).items() if v is not None}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("schema") / "a.safetensors"


@pytest.mark.parametrize("method", VALID, ids=lambda method: method.key)
def test_valid_files_are_read(method, path):
    write_tensors(VALID[method], path, metadata(method))
    concept = load_concept(path)
    assert read_card(path, "a") == card_of(concept)
    assert (concept.encoder is not None) == (method is methods.ELITE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
HOSTILE = st.text(max_size=20) | st.just("x" * 100_000) | st.just("9" * 5_000)
HOSTILE |= st.sampled_from(["-1", "0", "1e3", "³", "nan", str(2**63), "\x00", "<me>", "flux"])
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "encoder": JSON
        | st.fixed_dictionaries(
            {}, optional={"name": JSON | HOSTILE, "digest": JSON | HOSTILE, "vision": JSON}
        ),
        "left_out": JSON,
        "config": JSON,
    },
)
DESCRIPTIONS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("method", "base", "text_width", "placeholder", "class_word"), st.none() | HOSTILE
        ),
        "training": st.none() | HOSTILE | (JSON | RECORDS).map(json.dumps),
    },
)


def assert_short(act):
    """The act succeeds, or raises one sentence of the pack."""
    said = "fine."
    try:
        act()
    except PersonalizeError as error:
        said = str(error)
    assert said.endswith(".") and len(said) <= 1000
    return said


@settings(max_examples=300, deadline=None)
@given(method=st.sampled_from(list(VALID)), changes=DESCRIPTIONS)
def test_any_description_gets_a_short_sentence(path, method, changes):
    write_tensors(VALID[method], path, metadata(method, **changes))
    said = assert_short(lambda: load_concept(path, "a"))
    assert_short(lambda: read_card(path, "a"))
    if said == "fine.":
        assert read_card(path, "a") == card_of(load_concept(path, "a"))


SHAPES = st.lists(st.integers(0, 9), max_size=4)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool])


@st.composite
def odd_tensors(draw, method):
    """Valid tensors with some left out, of other shapes and types, not finite, or renamed."""
    tensors = dict(VALID[method])
    for name in draw(st.lists(st.sampled_from(list(tensors)), max_size=3, unique=True)):
        change = draw(st.sampled_from(["gone", "shape", "type", "value", "name"]))
        tensor = tensors.pop(name)
        if change == "shape":
            tensors[name] = torch.ones(draw(SHAPES))
        elif change == "type":
            tensors[name] = tensor.to(draw(DTYPES))
        elif change == "value":
            tensors[name] = tensor * draw(st.sampled_from([torch.nan, torch.inf, 1e30, 0.0]))
        elif change == "name":
            renamed = name.replace("1", draw(st.text("0123456789", min_size=1, max_size=300)))
            tensors[renamed + draw(st.sampled_from(["", ".up", ".down", "x" * 300]))] = tensor
    return tensors


@settings(max_examples=300, deadline=None)
@given(data=st.data(), method=st.sampled_from(list(VALID)))
def test_any_tensors_get_a_short_sentence(path, data, method):
    tensors = data.draw(odd_tensors(method))
    write_tensors(tensors, path, metadata(method))
    assert_short(lambda: load_concept(path, "a"))
    assert_short(lambda: read_card(path, "a"))


ENCODER = {
    "format": ENCODER_FORMAT,
    "name": "mine",
    "base": "sd1",
    "text_width": "8",
    "vision_width": "16",
    "vision_layers": "2",
    "vision_patches": "4",
    "digest": "0" * 64,
}


@settings(max_examples=100, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(list(ENCODER)), HOSTILE))
def test_any_encoder_gets_a_short_sentence(path, changes):
    write_tensors({"global.a": part(1)}, path, ENCODER | changes)
    assert assert_short(lambda: load_encoder(path)) != "fine."
    digest_in_file(path)


def test_a_small_file_with_an_enormous_product_is_refused(path):
    """12 MB whose factors are multiplied to more than any model has."""
    factors = {}
    for number in range(100):
        factors[f"difference.{number}.up"] = torch.ones(30_000, 1).half()
        factors[f"difference.{number}.down"] = torch.ones(1, 768).half()
    tensors = {"word": part(1, 768), **factors}
    concept = Concept(
        methods.DETEX, "sd1", 768, "<me>", words={"": tensors["word"]}, tensors=factors
    )
    save_concept(concept, path)
    assert path.stat().st_size < 12e6
    with pytest.raises(ConceptFileError, match="changes more weights than any model has"):
        load_concept(path)
    with pytest.raises(ConceptFileError, match="changes more weights than any model has"):
        weight_differences(concept)


def test_long_texts_are_refused_at_once():
    for changes, says in (
        ({"class_word": "a" * 2**23}, "class word has 8388608 characters. Expected.*at most 200"),
        ({"placeholder": f"<{'a' * 2**23}>"}, "placeholder has 8388610 characters"),
    ):
        settings = {"placeholder": "<me>", "words": {"": part(1, WIDTH)}} | changes
        with pytest.raises(PersonalizeError, match=says):
            Concept(methods.CROSS_INIT, "sd1", WIDTH, **settings)
    kept = Concept(methods.CROSS_INIT, "sd1", WIDTH, "<me>", "a" * MOST_TEXT)
    assert kept.class_word == "a" * MOST_TEXT


def test_what_is_shown_is_one_short_line():
    for value in ("x" * 10**6, "a\nb\x00c", 10**5000, [1] * 10**6, {}, None, b"x"):
        assert len(shown(value)) <= 80 and shown(value).isprintable()


def test_a_message_is_never_longer_than_a_screen():
    message = str(PersonalizeError(f"'{'x' * 10**6}' is wrong. Write another."))
    assert len(message) < 1000 and message.endswith("is wrong. Write another.")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("[]", {}),
        ("{", {}),
        ('{"a":' * 100_000, {}),
        ('{"a":' * 40 + "1" + "}" * 40, {}),
        ('{"a": ' + "9" * 5_000 + "}", {}),
    ],
)
def test_json_objects(written, read):
    assert json_object(written) == read
