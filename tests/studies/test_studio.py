"""The studio draws all prompts at once: what each shows is what it would show alone."""

import pytest
import torch
from personalize.miniature.files import ELITE, WEIGHTS
from personalize.miniature.subjects import Jury, prompts_for, thing
from personalize.studies import anchors
from personalize.studies.miniature_models import SIZE, load_miniature
from personalize.studies.recipes import DRAWING, RECIPES
from personalize.studies.studio import Studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    return Studio(load_miniature(), tmp_path_factory.mktemp("studio"))


@pytest.mark.host
def test_pictures_of_one_batch_are_those_drawn_alone(studio, monkeypatch):
    from personalize.host.sampling import text_to_image
    from personalize.samplers.apply import apply_concept
    from personalize.samplers.local_attention import Details

    monkeypatch.setitem(DRAWING, "steps", 3)
    subject, recipe = thing(21), RECIPES["elite"]
    texts = [prompt.about(recipe.name(subject)) for prompt in prompts_for(subject, 3)]
    concept = studio.encode(WEIGHTS / ELITE, subject, subject.references.first(1))
    together = studio.draw(texts, concept, seed=5)
    models = studio.models
    with torch.inference_mode():
        model, clip = apply_concept(models.model, models.clip, concept, details=Details(0.8))
        alone = [
            text_to_image(model, clip, models.vae, text, SIZE, seed=5 + k, **DRAWING)
            for k, text in enumerate(texts)
        ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-3)
    assert (together - studio.draw(texts, concept, seed=5, details=0.0)).abs().max() > 0.05


def test_anchors_go_down_with_what_is_shared():
    found = anchors.anchors(Jury.load(), [thing(n) for n in (20, 21, 22)])
    own, alike, colour, kind = found.values()
    assert own > 0.7 and own > alike > max(colour, kind)
    assert "own reference pictures 0." in anchors.sentence(found)


def test_others_share_what_their_title_says():
    from personalize.miniature.subjects import face, individual

    own = individual(thing(20))
    alike, coloured, same_kind = (scene for _, scene in anchors.others(thing(20)))
    assert (alike.kind, alike.colour, alike.pattern) == (own.kind, own.colour, own.pattern)
    assert alike.thing != own.thing
    assert coloured.kind != own.kind and coloured.colour == own.colour
    assert same_kind.kind == own.kind and same_kind.colour != own.colour
    assert [title for title, _ in anchors.others(face(20))] == ["another person"]
