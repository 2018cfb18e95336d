"""What other packs do to a CLIP, its tokens and its conditionings, and that the concept is there
afterwards. Each pattern is played as the packs have it; their code is not copied."""

import copy
import logging
import pickle
from types import SimpleNamespace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.samplers import mentions
from personalize.samplers.apply import apply_concept
from personalize.samplers.mentions import NamedRows
from personalize.samplers.prompt_words import mark_of
from personalize.tests.elite_models import random_encoder
from personalize.tests.elite_sampling import (
    EVERYTHING,
    PROMPT,
    as_words,
    conditioning,
    drawn,
    elite_concept,
    sample,
)

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def concept(tiny_sd1):
    return elite_concept(random_encoder(tiny_sd1))


@pytest.fixture
def applied(tiny_sd1, concept, monkeypatch):
    monkeypatch.setattr(mentions, "_NAMED", {})  # other tests have named <rex>, too
    monkeypatch.setattr(mentions, "_ENCODINGS", mentions.Encodings())
    model, clip = apply_concept(tiny_sd1.model, tiny_sd1.clip, concept, details=EVERYTHING)
    return SimpleNamespace(model=model, clip=clip)


def inner_of(tokenizer):
    return getattr(tokenizer, tokenizer.clip)


# --- tokenizers ---------------------------------------------------------------------------------


def set_and_deleted(clip):
    """A method of both tokenizers is set for a while, and deleted again."""
    for one in (clip.tokenizer, inner_of(clip.tokenizer)):
        stock = one.tokenize_with_weights
        one.tokenize_with_weights = lambda *args, stock=stock, **kwargs: stock(*args, **kwargs)
        clip.tokenize(PROMPT)
        del one.tokenize_with_weights
    return clip


def walked(clip):
    """Every object of the tokenizer that tokenizes counts as a text encoder's."""
    found = [v for v in vars(clip.tokenizer).values() if hasattr(v, "tokenize_with_weights")]
    assert found == [inner_of(clip.tokenizer)]
    return clip


def copied(clip):
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    setattr(clone.tokenizer, clip.tokenizer.clip, copy.copy(inner_of(clip.tokenizer)))
    return clone


def deeply_copied(clip):
    clone = clip.clone()
    clone.tokenizer = copy.deepcopy(clip.tokenizer)
    return clone


def wrapped(clip):
    """A method of the tokenizer stays replaced by one that calls it."""
    clone = copied(clip)
    inner = inner_of(clone.tokenizer)
    stock = inner.tokenize_with_weights
    inner.tokenize_with_weights = lambda text, *args, **more: stock(text, *args, **more)
    return clone


def wrapped_before(clip):
    """... and the copy is copied once more."""
    return copied(wrapped(clip))


TOKENIZERS = [set_and_deleted, walked, copied, deeply_copied, wrapped, wrapped_before]


@pytest.mark.parametrize("play", TOKENIZERS)
def test_a_concept_survives_what_packs_do_to_a_tokenizer(applied, play):
    expected = conditioning(applied.clip, PROMPT)[0][0]
    played = play(applied.clip.clone())
    for clip in (played, applied.clip):
        assert torch.equal(conditioning(clip, PROMPT)[0][0], expected)


@pytest.mark.parametrize("play", TOKENIZERS)
def test_another_concept_can_be_applied_behind_them(tiny_sd1, applied, play):
    word = torch.randn(1, applied.clip.tokenizer.personalize_applied[0].concept.text_width)
    other = Concept(methods.TEXTUAL_INVERSION, "sd1", word.shape[1], "<cat>", "cat", {"": word})
    _, both = apply_concept(tiny_sd1.model, applied.clip, other)
    _, played = apply_concept(tiny_sd1.model, play(applied.clip.clone()), other)
    prompt = "a <rex> and a <cat>"
    expected = conditioning(both, prompt)[0][0]
    assert torch.equal(conditioning(played, prompt)[0][0], expected)


def test_the_stock_class_is_asked_for_and_found(tiny_sd1, applied):
    stock = tiny_sd1.clip.tokenizer
    assert isinstance(applied.clip.tokenizer, type(stock))
    assert isinstance(inner_of(applied.clip.tokenizer), type(inner_of(stock)))
    assert type(applied.clip.tokenizer).__name__ == type(stock).__name__
    assert vars(applied.clip.tokenizer).keys() == vars(stock).keys()


@pytest.mark.parametrize("prompt", ["a embedding:<rex>", "a embedding: dog", "a embedding:"])
def test_embeddings_without_a_name_are_no_error(applied, prompt):
    named = "<rex>" in prompt
    tokens = [entry[0] for chunks in applied.clip.tokenize(prompt).values() for entry in chunks[0]]
    assert any(map(mark_of, tokens)) == named


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy])
def test_copies_keep_their_meaning(applied, copying):
    tokens = applied.clip.tokenize(PROMPT)
    again = copying(tokens)
    marks = [
        [mark_of(entry[0]) for chunks in one.values() for chunk in chunks for entry in chunk]
        for one in (tokens, again)
    ]
    assert marks[0] == marks[1] and any(marks[0])
    assert all(a.applied is b.applied for a, b in zip(*marks, strict=True) if a)
    with torch.inference_mode():
        expected = applied.clip.encode_from_tokens(tokens)
        assert torch.equal(applied.clip.encode_from_tokens(again), expected)


@pytest.mark.parametrize("what", ["clip", "model_options", "conditioning", "concept"])
def test_all_that_a_concept_is_in_can_be_deeply_copied(applied, concept, what):
    cond = conditioning(applied.clip, PROMPT)
    if what == "clip":
        again = copy.deepcopy(applied.clip.cond_stage_model), copy.deepcopy(applied.clip.tokenizer)
        assert again[1].personalize_applied == applied.clip.tokenizer.personalize_applied
    elif what == "model_options":
        again = applied.model.clone()
        again.model_options = copy.deepcopy(applied.model.model_options)
        pictures = [sample(m, cond, conditioning(applied.clip, "")) for m in (applied.model, again)]
        assert torch.equal(*pictures)
    elif what == "conditioning":
        again = copy.deepcopy(cond)
        assert again[0][1][mentions.MENTIONS] == cond[0][1][mentions.MENTIONS]
    else:
        assert copy.deepcopy(concept) is concept and copy.copy(concept) is concept


def test_a_concept_can_be_pickled(concept):
    again = pickle.loads(pickle.dumps(concept))
    assert again.method is concept.method and dict(again.training) == dict(concept.training)
    assert all(torch.equal(again.words[name], word) for name, word in concept.words.items())
    assert again.encoder.digest == concept.encoder.digest
    with pytest.raises(TypeError):
        again.words["new"] = torch.zeros(1)


# --- conditionings ------------------------------------------------------------------------------


def built_anew(clip, prompt=PROMPT):
    """As packs with encoders of prompts of their own have it."""
    return [
        [cond, {"pooled_output": more["pooled_output"]}]
        for cond, more in conditioning(clip, prompt)
    ]


def in_half_precision(clip):
    return [[cond.half().float(), more] for cond, more in built_anew(clip)]


def scaled(clip):
    """Weights that multiply a whole row."""
    return [[1.3 * cond, more] for cond, more in built_anew(clip)]


def behind_another(clip):
    from nodes import ConditioningConcat

    return ConditioningConcat().concat(conditioning(clip, "grass"), built_anew(clip))[0]


def scheduled(clip):
    from node_helpers import conditioning_set_values

    return conditioning_set_values(built_anew(clip), {"start_percent": 0.0, "end_percent": 0.6})


def by_clip_hooks(clip):
    """The stock Set CLIP Hooks, which keeps two of the encoder's results."""
    from comfy_extras.nodes_hooks import SetClipHooks

    hooked = SetClipHooks().apply_hooks(clip, apply_to_conds=True, schedule_clip=True)[0]
    return conditioning(hooked, PROMPT)


@pytest.mark.parametrize(
    "play", [built_anew, in_half_precision, scaled, behind_another, scheduled, by_clip_hooks]
)
def test_details_act_whatever_becomes_of_the_conditioning(tiny_sd1, concept, applied, play):
    """Against the same conditioning and the concept's words alone, whose MODEL has no details."""
    negative = conditioning(applied.clip, "")
    positive = play(applied.clip)
    with_details = sample(applied.model, positive, negative)
    plain, _ = apply_concept(tiny_sd1.model, tiny_sd1.clip, as_words(concept))
    keys = [mentions.MENTIONS in more for _, more in positive]
    assert not any(keys) or play is by_clip_hooks
    without = sample(projections_only(tiny_sd1, concept), positive, negative)
    assert not torch.equal(with_details, without)
    assert plain is tiny_sd1.model


def projections_only(tiny, concept):
    from personalize.samplers.local_attention import Details

    return apply_concept(tiny.model, tiny.clip, concept, details=Details(0.0))[0]


def test_a_conditioning_built_anew_draws_the_same(tiny_sd1, concept, applied):
    negative = conditioning(applied.clip, "")
    expected = drawn(tiny_sd1, concept)
    assert torch.equal(sample(applied.model, built_anew(applied.clip), negative), expected)


def test_both_halves_of_a_concatenation_count(applied):
    """The key of the first half is kept and tells of it alone."""
    from nodes import ConditioningConcat

    clip = applied.clip
    both = ConditioningConcat().concat(conditioning(clip, PROMPT), conditioning(clip, "a <rex>"))[0]
    cond = {
        "cross_attn": both[0][0],
        mentions.MENTIONS: both[0][1][mentions.MENTIONS],
        "uuid": 1,
        "model_conds": {"c_crossattn": SimpleNamespace(cond=both[0][0])},
    }
    (rows,) = mentions.Mentions("<rex>").rows_in([[cond]]).values()
    assert rows == (4, 77 + 2)


def averaged(to, other, strength):
    from nodes import ConditioningAverage

    return ConditioningAverage().addWeighted(to, other, strength)[0]


def rows_in(conditioning):
    cond = {"cross_attn": conditioning[0][0], "uuid": 1}
    cond["model_conds"] = {"c_crossattn": SimpleNamespace(cond=conditioning[0][0])}
    written = conditioning[0][1].get(mentions.MENTIONS)
    cond |= {mentions.MENTIONS: written} if written else {}
    return mentions.Mentions("<rex>").rows_in([[cond]]).get((0, 1), ())


LONG = "grass and " * 45 + "a <rex>"


@pytest.mark.parametrize("strength", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_prompts_of_an_average_count(applied, strength, dtype):
    """The key of the first is kept and tells of it alone; of the second tells the mixture."""
    clip = applied.clip
    grass, rex, other, long = (
        conditioning(clip, prompt) for prompt in ("some grass", PROMPT, "two of <rex>", LONG)
    )
    anew = [[rex[0][0].to(dtype).float(), {}]]
    assert rows_in(averaged(grass, anew, strength)) == (4,)
    assert rows_in(averaged(other, anew, strength)) == (3, 4)
    assert rows_in(averaged(anew, grass, strength)) == (4,)
    assert rows_in(averaged(rex, conditioning(clip, LONG[:-5]), strength)) == (4,)
    assert rows_in(averaged(long, anew, strength))[0] == 4
    assert rows_in(averaged(grass, conditioning(clip, "a cat"), strength)) == ()


def test_an_average_that_names_a_concept_draws_its_details(tiny_sd1, concept, applied):
    clip = applied.clip
    mixed = averaged(conditioning(clip, "some grass"), conditioning(clip, PROMPT), 0.4)
    negative = conditioning(clip, "")
    without = sample(projections_only(tiny_sd1, concept), mixed, negative)
    assert not torch.equal(sample(applied.model, mixed, negative), without)


def test_other_prompts_are_no_mixture_of_known_ones(applied):
    for prompt in (PROMPT, "a cat", "a photo of <rex>", "", "some grass"):
        conditioning(applied.clip, prompt)
    for prompt in ("a photo of dog on the beach", "a photo of cat", "a photo", PROMPT):
        rows = conditioning(applied.clip, prompt)[0][0]
        assert mentions._ENCODINGS.find(rows, "<rex>") == ()
    for seed in range(3):
        rows = torch.randn(1, 77, 64, generator=torch.Generator().manual_seed(seed))
        assert mentions._ENCODINGS.find(rows, "<rex>") == ()
        assert mentions._ENCODINGS.find(rows, "<other>") == ()


def test_other_prompts_are_not_taken_for_it(tiny_sd1, applied):
    conditioning(applied.clip, PROMPT)
    rows = mentions._rows_of("<rex>")
    for prompt in ("a photo of dog on the beach", "a photo of cat on the beach", ""):
        assert rows.find(conditioning(applied.clip, prompt)[0][0]) == ()
    assert rows.find(torch.zeros(1, 77, 3)) == ()


def test_a_model_that_draws_no_prompt_with_its_concept_says_so_once(
    tiny_sd1, applied, caplog, monkeypatch
):
    """In the log and on its node, where it goes when a prompt names the concept again."""
    shown = []
    monkeypatch.setattr(mentions, "show_on_node", lambda node, text: shown.append((node, text)))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            sample(
                applied.model, conditioning(tiny_sd1.clip, PROMPT), conditioning(applied.clip, "")
            )
    told = [r.message for r in caplog.records if "no prompt names it" in r.message]
    assert len(told) == 1 and told[0].startswith("<rex> is applied")
    assert [text for _, text in shown] == told
    sample(applied.model, conditioning(applied.clip, PROMPT), conditioning(applied.clip, ""))
    assert [text for _, text in shown] == [*told, ""]


def test_the_node_is_the_one_that_applied_the_concept():
    from comfy_execution.utils import CurrentNodeContext

    with CurrentNodeContext("prompt", "12:7"):
        assert mentions.Mentions("<rex>")._node == "12:7"
    assert mentions.Mentions("<rex>")._node == ""


def test_few_prompts_are_remembered():
    rows = NamedRows()
    vectors = torch.randn(mentions.REMEMBERED + 1, 1, 64)
    for vector in vectors:
        rows.remember(vector)
    assert rows.find(vectors[:1]) == () and rows.find(vectors[-1:]) == (0,)
    assert rows.find((3 * vectors[-1:]).half()) == (0,)
