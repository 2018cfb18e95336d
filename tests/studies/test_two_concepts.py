"""Two concepts' weights merged into one: exact where it promises to be, by plain linear algebra."""

import pytest
import torch
from personalize.samplers.apply import apply_concept
from personalize.studies.two_concepts import NAMES, error, errors, merged
from personalize.tests.samplers.test_local_weights import detex


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_merged_weights_do_what_each_concept_does_to_its_words_and_least_to_captions():
    changes = [{"a": noise(6, 8, seed=n)} for n in range(2)]
    words, captions = [noise(2, 8, seed=2), noise(1, 8, seed=3)], noise(40, 8, seed=4)
    one = merged(changes, words, captions)["a"]
    for change, rows in zip(changes, words, strict=True):
        assert torch.allclose(rows @ one.T, rows @ change["a"].T, atol=1e-4)
    # any other solution differs by what is blind to the words, and changes the captions more
    blind = torch.linalg.svd(torch.cat(words)).Vh[3:]
    for n in range(5):
        other = one + 0.1 * noise(6, 5, seed=n) @ blind
        assert torch.allclose(words[0] @ other.T, words[0] @ changes[0]["a"].T, atol=1e-4)
        assert (captions @ other.T).norm() > (captions @ one.T).norm()


def test_the_error_is_by_the_size_of_the_change():
    change, rows = {"a": noise(6, 8)}, noise(3, 8, seed=1)
    twice = {"a": 2 * change["a"]}
    assert error(twice, change, [change], rows) == pytest.approx(1)
    assert error(change, change, [change], rows) == 0
    assert error(change, None, [change, twice], rows) == pytest.approx(2 / 3)


@pytest.mark.host
def test_the_table_has_nothing_wrong_in_own_prompts(tiny_sd1):
    concepts = [detex(tiny_sd1, name, seed) for seed, name in enumerate(NAMES)]
    patched = tiny_sd1.model, tiny_sd1.clip
    for concept in concepts:
        patched = apply_concept(*patched, concept)
    cells = [line.split(" | ")[1:] for line in errors(concepts, patched[1])[2:]]
    summed, one, own = (
        [float(row[n].strip(" |")) for row in cells] for n in range(3)
    )  # by line: about <one>, about <two>, about neither, both in one
    assert own[:3] == [0, 0, 0] and summed[3] == own[3]
    assert all(e > 0.1 for e in summed) and all(e > 0 for e in one)
