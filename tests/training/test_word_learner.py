"""Words in training: where they stand in which prompt, and what a picture's caption changes."""

import pytest
import torch
from personalize.tests.training.toy import LATENTS, WIDTH, toy_backbone
from personalize.training.batch import Batch
from personalize.training.textual_inversion import TextualInversionConfig
from personalize.training.word_learner import WordLearner

pytestmark = pytest.mark.host

TEMPLATES = ("a {}", "the {} there")
WORDS = torch.tensor([[1.0], [8.0]]).expand(2, WIDTH)


class Pictures:
    """Four pictures, of which one has a caption."""

    captions = ("", "", "my <it> again", "")

    def __len__(self):
        return len(self.captions)


def made(backbone, pictures=None, subjects=([range(1)], [range(1, 2)])):
    config = TextualInversionConfig(placeholder="<it>", init_word="dog")
    return WordLearner(
        config,
        backbone,
        pictures or Pictures(),
        words=WORDS,
        subjects=subjects,
        templates=TEMPLATES,
    )


def batch(index, prompt):
    x0, noise = torch.zeros(LATENTS), torch.ones(LATENTS)
    rows = {"index": torch.tensor(index), "prompt": torch.tensor(prompt)}
    return Batch(x0=x0, noise=noise, t=torch.zeros(2, dtype=torch.long), **rows)


def test_the_first_subjects_prompts_come_first_and_captions_last():
    learner = made(toy_backbone())
    words = [[slot for slot in row if slot >= 0] for row in learner.table.slots.tolist()]
    assert words == [[0], [0], [1], [1], [0]]
    assert [row.index(max(row)) for row in learner.table.slots.tolist()] == [2, 2, 2, 2, 2]
    assert learner.prompts == len(TEMPLATES)  # of each subject; a caption is nobody else's


def test_a_caption_takes_the_place_of_what_was_drawn_for_its_picture():
    learner = made(toy_backbone())
    rows = learner.prompt_rows(batch([2, 3], [1, 1]))
    assert rows.tolist() == [4, 1]


def test_a_caption_loses_what_a_prompt_has_no_room_for():
    class Long(Pictures):
        captions = ("<it> " + "very " * 40, "")

    backbone = toy_backbone()
    (caption,) = made(backbone, Long()).table.ids[-1:, :, 0].tolist()
    very = backbone.text.tokenize("very")[0][0]
    assert caption == backbone.text.prompt(0, *[very] * 13)


def test_each_row_of_the_batch_is_denoised_with_its_own_prompt():
    learner = made(toy_backbone())
    drawn = batch([0, 2], [1, 0])
    loss = learner.loss(toy_backbone(), drawn)["denoising"]
    table, rows = learner.table, torch.tensor([1, 4])
    ids, slots = table.ids[rows, :, 0].float(), table.slots[rows]
    means = torch.where(slots >= 0, WORDS[slots.clamp(min=0), 0], ids).mean(dim=1)
    assert loss.item() == pytest.approx((1 - means).square().mean().item())
    (gradient,) = torch.autograd.grad(loss, [learner.words])
    assert gradient[0].all() and not gradient[1].any()  # nothing of the second is in the batch


def test_what_the_words_start_from_stays():
    learner = made(toy_backbone())
    with torch.no_grad():
        learner.words.add_(1)
    assert WORDS[:, 0].tolist() == [1.0, 8.0]
    assert learner.parameters["words"] is learner.words
