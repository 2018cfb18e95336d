"""The notes of the examples, and the files that they and their loaders name."""

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
VISION = "clip-vit-large-patch14.safetensors"
SAM = "sam_vit_b_01ec64.pth"

MODEL_NOTE = """\
**Start here.** Choose a Stable Diffusion 1.x or 2.x checkpoint. This example names \
`{checkpoint}`, which belongs into `ComfyUI/models/checkpoints`.

Then load a picture of {subject}, at least 512 pixels wide. It is cropped to its centre square.

One picture is enough to begin. To use more, put them through *Create List*."""

FACE_LEARN_NOTE = """\
Two words are learned, started from the text encoder's own output for the mean of well-known names.

`preset` **quality**: 320 steps, **fast**: 25 steps. The node shows loss, speed and a preview.

**Cancel** whenever you like: the same settings go on from there at the next run.

For what is no face, set `class_word` to what it is (dog) and `init_from` to **class word**."""

FACE_USE_NOTE = """\
`<me>` now stands for the face, in any prompt, beside any other node. Try:

- a photo of `<me>` person as a chef, in a kitchen
- an oil painting of `<me>` person
- `(<me>:0.9)` person and a dog

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""

THING_LEARN_NOTE = """\
Residual keys and values in the last three text layers are learned: the class word, "dog", keeps \
its meaning and gains the subject's looks.

1000 steps. The node shows loss, speed and a preview.

**Cancel** whenever you like: the same settings go on from there at the next run.

`class_word` is what the subject is, in the simplest word for it."""

THING_USE_NOTE = """\
`<my-dog>` is encoded as "dog", with the residuals beside it. So write it as you would write dog:

- a photo of a `<my-dog>` on the beach
- a `<my-dog>` wearing a red hat

`strength` of *Apply Concept* moves from the plain word (0) to the subject (1) and beyond.

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""

WORD_LEARN_NOTE = """\
One new word is learned, the baseline of all the other methods: nothing of the model changes, and \
the file has a few kB.

`init_word` is what the subject is, in a single word. `vectors` more than 1 hold more detail and \
are harder to edit.

**Stop and keep** as soon as the preview is like it; **Cancel**, and the same settings go on from \
there at the next run."""

WORD_USE_NOTE = """\
`<my-dog>` is now a word like any other:

- a photo of a `<my-dog>` on the beach
- an oil painting of a `<my-dog>`, by `(<my-dog>:0.8)` its weight

*Save Concept* can write it as a stock embedding too (`also_as_embedding`), for people without \
this pack.

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""

WEIGHTS_LEARN_NOTE = """\
A word, and the keys and values of the model's cross attention. First the model makes **200 \
pictures of the class**, once, so that it does not forget what other dogs look like; connect \
`prior_images` to give your own.

**Stop and keep** as soon as the preview is like it; **Cancel**, and the same settings go on from \
there at the next run."""

WEIGHTS_USE_NOTE = """\
`<my-dog>` stands for a new word and "dog" together, so the class word is not written again:

- a photo of a `<my-dog>` on the beach
- a `<my-dog>` wearing a red hat

The file has 38 MB; `rank` of *Save Concept* makes it smaller.

Later, use *Load Concept* in the place of the Train node: the file lies in `output/concepts`."""

TWO_MODEL_NOTE = """\
**Start here.** Run *learn-a-face-cross-initialization* and *learn-a-thing-catversion* first: this \
example draws with the files that they saved in `output/concepts`, and the same checkpoint.

Each *Apply Concept* makes one more placeholder known. Methods may differ, the family may not."""

TWO_PROMPT_NOTE = """\
One prompt a subject, each for **its half of the picture**, which is as large as a whole one: so \
neither bleeds into the other.

One prompt with both, such as `<me>` person with a `<my-dog>`, works too, and mixes them more.

With Custom Diffusion and DETEX concepts, switch `own_prompts_only` on in both *Apply Concept*."""

TWO_DRAW_NOTE = """\
*Conditioning (Set Area with Percentage)* gives each prompt its half, *Conditioning (Combine)* \
joins them. `strength` of an area that is too weak may go up to 1.3."""

SCORE_MODEL_NOTE = """\
**Start here.** Run *learn-a-thing-catversion* first: this example draws with the file that it \
saved in `output/concepts`. Load the picture that it was learned from."""

SCORE_DRAW_NOTE = """\
Four pictures of one prompt. More pictures and more prompts make the scores say more: five prompts \
with four pictures each is a fair start."""

SCORE_NOTE = """\
**CLIP-T**: does the picture show what the prompt says? **CLIP-I** and **DINO-I**: is it the \
subject?

`clip_folder` is a folder in `models/clip_metrics` with the files of a CLIP in transformers' \
layout, such as those of openai/clip-vit-large-patch14. Nothing is downloaded.

`filename` writes a table to `output/scores`."""

COMPARE_MODEL_NOTE = """\
**Start here.** Run *learn-a-thing-catversion* and *learn-a-subject-custom-diffusion* first: this \
example draws with the files that they saved in `output/concepts`, and the same checkpoint. Any \
other concepts of one family of checkpoints will do."""

COMPARE_NOTE = """\
Each concept has rows, one for each of the `strengths`; each line of `prompts` is a column, `{}` \
the concept. All pictures begin with the same noise.

Connect more concepts: another socket appears. With a CLIP as `clip_folder` each picture has a \
score."""

ELITE_MODEL_NOTE = f"""\
**Start here.** Choose a Stable Diffusion 1.x checkpoint, the CLIP ViT-L/14 vision encoder \
(this example names `{VISION}`, in `models/clip_vision`) and the encoder: the official \
`global_mapper.pt` and `local_mapper.pt` in `models/elite`, or one of this pack.

Load a **square** picture that shows the subject large, then paint over the subject: right-click, \
*Open in Mask Editor*. Without paint the mask is empty: pull its link off to use the whole \
picture."""

ELITE_ENCODE_NOTE = """\
One pass, no training. The picture becomes a **word** and **details** for the cross attention.

What is painted in the mask counts for the details; its edge need not be exact.

*Save Concept* keeps it. The file needs the encoder's file beside it, unless `embed_encoder` is \
on."""

ELITE_GENERATE_NOTE = """\
`<my-dog>` now stands for the subject. To put it somewhere new, `local_strength` **0.8**:

- a photo of `<my-dog>` on the beach
- `<my-dog>` sleeping in a basket

More keeps more of the picture's details, up to 1.2, and less lets the prompt say more. \
`end_percent` 0.7 leaves the last steps to the model alone."""

ELITE_EDIT_NOTE = """\
To change the subject itself, `local_strength` **0.6**: the prompt gets its say.

- a photo of `<my-dog>` wearing a red hat
- `<my-dog>` made of wood

Sampling starts from the picture itself. `denoise` of *KSampler* says how far to go: 0.5 keeps the \
composition, 1 forgets the picture and keeps the subject only."""

DETEX_MODEL_NOTE = f"""\
**Start here.** Choose a Stable Diffusion 1.x or 2.x checkpoint, the CLIP ViT-L/14 vision encoder \
(this example names `{VISION}`, in `models/clip_vision`) and a SAM file (`{SAM}`, in \
`models/sams`).

Load **four pictures of one subject in other poses and places**. Their order is their number: the \
second one's pose will be `<my-dog:pose2>`. Each is cropped to its centre square."""

DETEX_MASK_NOTE = """\
*Segment Subject* finds the subject in each picture; look at its preview before you train.

Where it is wrong: set `candidate`, or write `points` on the subject. Or paint masks in the mask \
editor and put them through a *Create List* of their own."""

DETEX_LEARN_NOTE = """\
The subject, each picture's pose and each picture's background become words of their own.

`pose_word` **pose** for what moves, **view** for rigid things such as a mug.

600 steps, after 200 pictures of the class that the model makes once. The second preview has the \
first picture's pose and background.

**Cancel** whenever you like: the same settings go on from there at the next run."""

DETEX_USE_NOTE = """\
`<my-dog>` is the subject alone, in any pose and place that you ask for:

- a photo of a `<my-dog>` on the beach
- a photo of a `<my-dog>` with `<my-dog:pose2>` pose

The example *swap-pose-and-background-detex* goes on from the saved file."""

SWAP_MODEL_NOTE = """\
**Start here.** Run *learn-a-subject-detex* first: this example draws with the file that it saved, \
`{name}.safetensors` in `output/concepts`, and the same checkpoint.

*Apply Concept* makes the words known to all prompts."""

SWAP_PROMPT_NOTE = """\
Above, the **pose of the second** picture in the **background of the first**. Below, **another \
animal** in the pose of the second.

Try other numbers, or leave a part out:

- photo of a `<my-dog>` with `<my-dog:pose3>` pose on the beach
- photo of a cat in `<my-dog:background1>` background"""

SWAP_DRAW_NOTE = """\
Both start from the same noise, with the sampler of the paper: DDIM, 50 steps, guidance 6.

With `pose_word` **view** in the training, write "view" after the pose word."""
