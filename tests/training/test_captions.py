"""Captions of pictures: where the subject stands in them, and that they are trained with."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts.errors import TrainingError
from personalize.host.backbone import Backbone
from personalize.tests.devices import device, here
from personalize.tests.trainers import SETTINGS, noise
from personalize.training.batch import Batch
from personalize.training.captions import caption_template, check_captions
from personalize.training.cross_init import CrossInitConfig
from personalize.training.custom_diffusion import CustomDiffusion, CustomDiffusionConfig
from personalize.training.learn import learn
from personalize.training.sources import Sources
from personalize.training.textual_inversion import TextualInversion, TextualInversionConfig

CAPTIONS = {
    "a <my-dog> on the beach": "a {} on the beach",
    "a <my-dog> dog on the beach": "a {} on the beach",
    "a < my-dog > dog": "a {}",
    "{} dog, sitting": "{}, sitting",
    "two dogs and a Dog on grass": "two dogs and a {} on grass",
    "hotdogs for sale": "a photo of a {}, hotdogs for sale",
    "sitting, outdoors": "a photo of a {}, sitting, outdoors",
    "{} and {}": "{} and ",
    "a <my-cat> and a dog": "a <my-cat> and a {}",
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_the_subject_stands_where_the_caption_means_it(caption):
    assert caption_template(caption, "<my-dog>", "dog") == CAPTIONS[caption]


def test_captions_are_one_for_each_picture_or_none():
    assert check_captions([" a dog\n on grass ", ""], 2) == ("a dog on grass", "")
    assert check_captions([], 2) == check_captions(["", " "], 2) == ()
    with pytest.raises(TrainingError, match="got 1 captions and 2 pictures"):
        check_captions(["a dog"], 2)


def sources(tiny, captions=()):
    pictures = {"images": [noise(2, 64, 64, 3, seed=1)], "prior_images": [noise(1, 64, 64, 3)]}
    return Sources(model=tiny.model, clip=tiny.clip, vae=tiny.vae, captions=captions, **pictures)


def texts(learner, backbone, rows):
    """Token ids of the prompts that a batch of these pictures trains with."""
    batch = Batch(*(torch.zeros(1) for _ in range(3)), index=rows, prompt=torch.zeros_like(rows))
    batch = batch.to(device())
    return here(learner.table.ids[learner.prompt_rows(batch)])


def padded(text, tokens):
    return torch.tensor(text.pad(tokens)).tolist()


@pytest.mark.host
def test_a_picture_with_a_caption_has_it_for_its_prompt(tiny_sd1):
    long = "a dog " + "on the grass and " * 40
    config = TextualInversionConfig(placeholder="<my-dog>", init_word="dog", **SETTINGS)
    with torch.inference_mode():
        backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
        for captions in (["a dog on grass", ""], [long, ""]):
            given = sources(tiny_sd1, captions)
            pictures = TextualInversion.prepare(config, given, backbone)
            with backbone.session(pictures.batch_shape(2)):
                learner = TextualInversion(config, backbone, pictures)
                captioned, plain = texts(learner, backbone, torch.tensor([0, 1]))
            text = backbone.text
            start, grass = text.tokenize("a"), text.tokenize("on grass")
            expected = [*start, text.any_token, *grass]
            assert plain.tolist() != captioned.tolist()
            if captions[0] == long:  # what there is no room for is left out
                assert captioned[:3].tolist() == padded(text, expected)[:3]
            else:
                assert captioned.tolist() == padded(text, expected)
            assert learner.prompts == 27  # a caption is nobody else's prompt


@pytest.mark.host
@pytest.mark.parametrize(
    "config",
    [
        TextualInversionConfig(placeholder="<my-dog>", init_word="dog", **SETTINGS),
        CrossInitConfig(placeholder="<my-dog>", class_word="dog", **SETTINGS),
        CustomDiffusionConfig(placeholder="<my-dog>", class_word="dog", **SETTINGS),
    ],
    ids=lambda config: type(config).__name__,
)
def test_captions_change_what_is_learned_and_name_another_training(config, tiny_sd1, tmp_path):
    def run(captions):
        with torch.inference_mode():
            given = sources(tiny_sd1, captions)
            return learn(replace(config, steps=2), given, states=tmp_path, resume=True)

    plain, empty = run([]), run(["", ""])
    captioned = run(["a dog in the snow", "my old dog"])
    words = [one.concept.words[""] for one in (plain, empty, captioned)]
    assert torch.equal(words[0], words[1]) and not torch.equal(words[0], words[2])
    assert len(list(tmp_path.iterdir())) == 2  # the empty ones went on where the first had ended
    with pytest.raises(TrainingError, match="3 captions and 2 pictures"):
        run(["a dog"] * 3)


@pytest.mark.host
def test_custom_diffusion_writes_no_class_word_twice(tiny_sd1):
    config = CustomDiffusionConfig(placeholder="<my-dog>", class_word="dog", **SETTINGS)
    with torch.inference_mode():
        backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
        given = sources(tiny_sd1, ["a dog on grass", ""])
        pictures = CustomDiffusion.prepare(replace(config, prior_weight=0), given, backbone)
        with backbone.session(pictures.batch_shape(2)):
            learner = CustomDiffusion(config, backbone, pictures)
            (captioned,) = texts(learner, backbone, torch.tensor([0]))
        text = backbone.text
        expected = [*text.tokenize("a"), text.any_token, *text.tokenize("dog on grass")]
        assert captioned.tolist() == padded(text, expected)
