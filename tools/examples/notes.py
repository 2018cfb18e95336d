"""The notes of the templates, and the files that they and their loaders name.

`{train.steps}` in a note is the widget `steps` of the node with the key `train`, so that a note
never says another number than its node.
"""

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
CHECKPOINT_XL = "sd_xl_base_1.0.safetensors"
FACE_CHECKPOINT = "v2-1_512-ema-pruned.safetensors"
VISION = "clip-vit-large-patch14.safetensors"
SAM = "sam_vit_b_01ec64.pth"
SAM3 = "sam3.1_multiplex_fp16.safetensors"
BACKGROUND = "birefnet.safetensors"

FACE_MODEL = """\
**Start here.** Choose an SD1.x, SD2.x or SDXL checkpoint, and load **one face** that looks at the \
camera. It is cropped to its centre square; where the face is small or aside, switch *Crop Image* \
on (Ctrl+B) and set its box."""

TWO_FACES_MODEL = f"""\
**Start here.** The paper's checkpoint is SD2.1-base, `{FACE_CHECKPOINT}`; any SD1.x, SD2.x or \
SDXL will do. Load **two faces** that look at the camera. Each is cropped to its centre square."""

STYLES_MODEL = f"""\
**Start here.** The paper's checkpoint is SD2.1-base, `{FACE_CHECKPOINT}`; any SD1.x, SD2.x or \
SDXL will do. Load **one face** that looks at the camera. It is cropped to its centre square."""

THING_MODEL = """\
**Start here.** Choose an SD1.x, SD2.x or SDXL checkpoint, and load a picture of **one animal or \
thing**, seen whole. More pictures: through *Create List*. Where it is small or aside, switch \
*Crop Image* on (Ctrl+B) and set its box."""

FACE_LEARN = """\
{train.steps} steps (`preset` {train.preset}; **fast** takes 25). **Stop and keep** when the \
preview is like it; **Cancel**, and the next run goes on from there."""

THING_LEARN = """\
{train.steps} steps. `class_word`: what it is, in one simple word. **Stop and keep** when the \
preview is like it; **Cancel**, and the next run goes on from there."""

TWO_FACES_LEARN = """\
Two trainings of {train.steps} steps (`preset` {train.preset}; **fast** takes 25). Each face has a \
placeholder and a file of its own; a face that is saved already comes from *Load Concept*."""

STYLES_LEARN = """\
{train.steps} steps (`preset` {train.preset}; **fast** takes 25). With `class_word` person, a \
third of the 81 prompts say photo, a third illustration, a third depiction, so that styles can be \
asked for later (`illustrations`)."""

WORD_LEARN = """\
{train.steps} steps. `init_word`: what it is, in one simple word. **Stop and keep** when the \
preview is like it; **Cancel**, and the next run goes on from there."""

FACE_USE = """\
Write `<me> person` in any prompt: `an oil painting of <me> person`. Later, *Load Concept* takes \
the place of the Train node.

The paper draws in 50 steps, with SD2.1-base; 25 are faster."""

TWO_FACES_USE = """\
One *Apply Concept* after the other makes both placeholders known, and one prompt names both: \
write what they do together. If one face takes over, give the other a weight: `(<you>:1.2) person`.

The paper draws in 50 steps; 25 are faster."""

STYLES_USE = """\
A column for each line of `prompts`, `{{}}` is `<me> person`, all from the same noise. Write other \
styles: a fresco, a comic, a bronze bust.

The paper draws in 50 steps; 25 are faster."""

THING_USE = """\
Write `<my-dog>` as you would write dog: `a <my-dog> wearing a red hat`. Later, *Load Concept* \
takes the place of the Train node.

The paper draws in 50 steps; 25 of dpmpp_2m are faster."""

FOLDER_MODEL = f"""\
**Start here.** Put pictures into a folder in `ComfyUI/input`, with a `.txt` of the same name \
beside those that have a caption. *SAM3 Detect* finds what *Text* says, and the crops are trained \
with. It names `{SAM3}`, in `models/checkpoints`; without it, connect the folder itself as \
*images*."""

FOLDER_LEARN = """\
{train.steps} steps, after {train.prior_count} pictures of the class that the model makes once. A \
caption takes the place of a template; the concept stands where it says `<me>` or \
{train.class_word}."""

FOLDER_USE = """\
`<me>` is a new word and the class word together: `a photo of <me> smiling`. `rank` of *Save \
Concept* makes the file smaller."""

ELITE_MODEL = f"""\
**Start here.** One **square** picture that shows the subject large; `{VISION}` in \
`models/clip_vision`; the authors' `global_mapper.pt` and `local_mapper.pt`, or an encoder of this \
pack, in `models/elite`."""

ELITE_ENCODE = """\
One pass, no training: a word, and details for the cross attention. *Segment Subject* says what \
counts; see its preview."""

EDIT_ENCODE = """\
One pass, no training: a word, and details for the cross attention. *Remove Background* says what \
counts."""

ELITE_GENERATE = """\
`local_strength` {apply.local_strength} as the authors for `a photo of a <my-dog>`; for a context \
or an edit, such as a beach or a hat, they take **0.6**: more keeps more of the picture, less lets \
the prompt say more. The paper draws in 100 steps of lms; 25 of dpmpp_2m are faster."""

ELITE_EDIT = """\
Sampling starts from the picture: `denoise` {sample.denoise} says how far it goes. \
`local_strength` {apply.local_strength} leaves room for the prompt.

As the authors edit, from noise: *Empty Latent Image* in the place of *VAE Encode*, `denoise` 1."""

DETEX_MODEL = f"""\
**Start here.** Four pictures of one subject in **other poses and places**; `{VISION}` in \
`models/clip_vision`, `{SAM3}` in `models/checkpoints`."""

DETEX_MASK = """\
What *Text* says is found by SAM 3, and is the class word, too. *Segment Subject* tidies the \
masks: see its preview."""

DETEX_LEARN = """\
{train.steps} steps, after {train.prior_count} pictures of the class that the model makes once. \
`pose_word` **view** for rigid things."""

DETEX_USE = """\
The **second** picture's pose in the **first** one's place. Or: `a photo of a <my-dog> on the \
beach`, `photo of a cat with <my-dog:pose2> pose`."""

LIKE_XL = "SDXL, Pony, Illustrious, NoobAI, SSD-1B or Vega"

FACE_MODEL_XL = f"""\
**Start here.** Choose a checkpoint of {LIKE_XL}, and load **one face** that looks at the camera, \
at least 1024 pixels large. It is cropped to its centre square."""

THING_MODEL_XL = f"""\
**Start here.** Choose a checkpoint of {LIKE_XL}, and load a picture of **one animal or thing**, \
seen whole, at least 1024 pixels large. More pictures: through *Create List*."""

FACE_LEARN_XL = """\
{train.steps} steps of {train.batch_size} pictures (`preset` {train.preset}). **Stop and keep** \
when the preview is like it; **Cancel**, and the next run goes on from there."""

FACE_USE_XL = """\
Write `<me> person` in any prompt: `an oil painting of <me> person`. In *CLIPTextEncodeSDXL* it \
may stand in both texts or in one. Later, *Load Concept* takes the place of the Train node.

Draw at 1024 pixels."""

THING_USE_XL = """\
Write `<my-dog>` as you would write dog: `a <my-dog> wearing a red hat`. In *CLIPTextEncodeSDXL* \
it may stand in both texts or in one. Later, *Load Concept* takes the place of the Train node.

Draw at 1024 pixels."""

DETEX_MODEL_XL = f"""\
**Start here.** A checkpoint of {LIKE_XL}. Four pictures of one subject in **other poses and \
places**; `{VISION}` in `models/clip_vision`, `{SAM3}` in `models/checkpoints`."""

DETEX_LEARN_XL = """\
{train.steps} steps at `rank` {train.rank}, after {train.prior_count} pictures of the class that \
the model makes once: a card of 12 GB. `pose_word` **view** for rigid things."""

TWO_MODEL = """\
**Start here.** Run *1 Learn my face* and *2 Learn my pet* first: this draws with the files that \
they saved. Each *Apply Concept* makes one more placeholder known."""

TWO_PROMPT = """\
One prompt a subject, each for its half of the picture. With Custom Diffusion or DETEX concepts, \
switch `own_prompts_only` on."""

TWO_DRAW = """\
*Conditioning (Set Area with Percentage)* gives each prompt its half; a half that is too weak may \
have `strength` 1.3."""

COMPARE_MODEL = """\
**Start here.** Run *1 Learn my face* and *3 Learn from a folder* first: this draws with the files \
that they saved. Any other concepts of one base model will do."""

COMPARE = """\
Rows: each concept at the `strengths` {compare.strengths}. Columns: the lines of `prompts`, `{{}}` \
is the concept. One more concept: connect it, and another socket appears."""

SCORE_MODEL = """\
**Start here.** Run *2 Learn my pet* first: this draws with the file that it saved. Load the \
picture that it was learned from."""

SCORE_DRAW = """\
{latent.batch_size} pictures of one prompt. Five prompts with four pictures each say more."""

SCORE = """\
**CLIP-T**: what the prompt says; **CLIP-I**, **DINO-I**: the subject. `clip_folder` is a CLIP in \
transformers' layout in `models/clip_metrics`. Nothing is downloaded."""
