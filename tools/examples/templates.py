"""The templates: few, numbered in the order that one needs them, named for what one wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import notes
from .example import Column, Draft, Node, Source, Stack
from .sdxl_examples import on_sdxl

SCORER = "clip-vit-large-patch14"
FOLDER = "me"  # of pictures, in input
COMPARED = "a photo of a {}\na photo of a {} on the beach"
SCORED_PROMPT = "a photo of a <my-dog> on the beach"
SWAPPED = "photo of a <my-dog> with <my-dog:pose2> pose in <my-dog:background1> background"

STYLES = """\
a photo of {}
an oil painting of {}
a manga drawing of {}
a marble statue of {}"""

SAMPLING: dict[str, Any] = {
    "seed": 1,
    "steps": 30,
    "cfg": 7.0,
    "sampler_name": "dpmpp_2m",
    "scheduler": "karras",
}
FACE_SAMPLING = {"steps": 50, "cfg": 7.5, "sampler_name": "dpmpp_2m", "scheduler": "normal"}
CATVERSION_SAMPLING = {"steps": 50, "cfg": 10.0, "sampler_name": "ddim", "scheduler": "normal"}
ELITE_SAMPLING = {"steps": 100, "cfg": 5.0, "sampler_name": "lms", "scheduler": "normal"}
"""As the papers draw."""

DETEX_SAMPLING = {"steps": 50, "cfg": 6.0, "sampler_name": "ddim", "scheduler": "normal"}
MODEL, LEARN, USE = "#3f789e", "#a1309b", "#88aa44"  # colours of groups
NARROW, WIDE = 330, 400

BASE = Node("CheckpointLoaderSimple", widgets={"ckpt_name": notes.CHECKPOINT})
FACE_BASE = replace(BASE, widgets={"ckpt_name": notes.FACE_CHECKPOINT})
PICTURE = Node("LoadImage", widgets={"image": "example.png"})
VISION = Node("CLIPVisionLoader", widgets={"clip_name": notes.VISION})
NEGATIVE = {"text": ""}  # the papers have none


def text(words: str, clip: Source = ("apply", 1)) -> Node:
    return Node("CLIPTextEncode", {"clip": clip}, {"text": words})


def loaded(file: str) -> Node:
    return Node("PersonalizeLoadConcept", widgets={"concept_name": f"{file}.safetensors"})


def applied(models: str, concept: Source, **widgets: Any) -> Node:
    links = {"model": (models, 0), "clip": (models, 1), "concept": concept}
    return Node("PersonalizeApplyConcept", links, widgets)


def saved(concept: Source, file: str) -> Node:
    return Node("PersonalizeSaveConcept", {"concept": concept}, {"filename": file})


def trained(kind: str, images: Source, widgets: dict[str, Any], **links: Source) -> Node:
    models: dict[str, Source] = {"model": ("base", 0), "clip": ("base", 1), "vae": ("base", 2)}
    return Node(kind, {**models, "images": images, **links}, widgets)


def sampled(file: str, positive: str = "positive", **widgets: Any) -> Stack:
    """KSampler, what decodes its latent, and what saves the picture."""
    links: dict[str, Source] = {
        "model": ("apply", 0),
        "positive": (positive, 0),
        "negative": ("negative", 0),
        "latent_image": ("latent", 0),
    }
    return {
        "sample": Node("KSampler", links, {**SAMPLING, **widgets}),
        "decode": Node("VAEDecode", {"samples": ("sample", 0), "vae": ("base", 2)}),
        "picture_saved": Node(
            "SaveImage", {"images": ("decode", 0)}, {"filename_prefix": f"personalize/{file}"}
        ),
    }


def use(
    note: str,
    concept: Source,
    file: str,
    prompt: str,
    apply: Mapping[str, Any] | None = None,
    sample: Mapping[str, Any] | None = None,
    start: Stack | None = None,
) -> Column:
    """The last column: a prompt that names the concept, drawn and saved.

    start: the nodes that make the latent, the last one under the key "latent"; empty by default
    """
    words = {
        "apply": applied("base", concept, **(apply or {})),
        "positive": text(prompt),
        "negative": Node("CLIPTextEncode", {"clip": ("apply", 1)}, dict(NEGATIVE)),
        **(start or {"latent": Node("EmptyLatentImage")}),
    }
    stacks = (words, sampled(file, **(sample or {})))
    return Column("Use it in any prompt", USE, note, stacks, (WIDE, NARROW))


def learn(note: str, train: Node, file: str) -> Column:
    stack = {"train": train, "save": saved(("train", 0), file)}
    return Column("Learn", LEARN, note, [stack], [WIDE])


def model_and_picture(note: str) -> Column:
    """Checkpoint, picture, and a crop of the subject for those who need it."""
    crop = Node("ImageCropV2", {"image": ("picture", 0)}, stands_in=("picture", 0), bypassed=True)
    stacks = ({"base": BASE, "picture": PICTURE}, {"crop": crop})
    return Column("Model and picture", MODEL, note, stacks, (NARROW, NARROW))


def one_picture(
    name: str,
    kind: str,
    widgets: dict[str, Any],
    file: str,
    prompt: str,
    told: tuple[str, ...],
    sample: Mapping[str, Any] | None = None,
) -> Draft:
    """Checkpoint and picture, a Train node, and a prompt that uses the concept."""
    model_note, learn_note, use_note = told
    columns = (
        model_and_picture(model_note),
        learn(learn_note, trained(kind, ("crop", 0), widgets), file),
        use(use_note, ("train", 0), file, prompt, sample=sample),
    )
    return Draft(name, columns)


FACE = one_picture(
    "1 Learn my face",
    "PersonalizeTrainCrossInit",
    {"placeholder": "<me>", "class_word": "person", "preset": "quality"},
    "me",
    "a photo of <me> person as a chef, in a kitchen",
    (notes.FACE_MODEL, notes.FACE_LEARN, notes.FACE_USE),
    FACE_SAMPLING,
)
TWO_FACES = "a photo of <me> person and <you> person, side by side on the beach"


def face(placeholder: str, picture: str) -> Node:
    widgets = {"placeholder": placeholder, "class_word": "person", "preset": "quality"}
    return trained("PersonalizeTrainCrossInit", (picture, 0), widgets)


def two_faces() -> Draft:
    """Two faces, each from one picture, in one prompt."""
    first = {
        "base": FACE_BASE,
        "picture": PICTURE,
        "picture2": replace(PICTURE, title="The other face"),
    }
    trains = (
        {"train": face("<me>", "picture"), "save": saved(("train", 0), "me-2")},
        {"train2": face("<you>", "picture2"), "save2": saved(("train2", 0), "you-2")},
    )
    words = {
        "apply_me": applied("base", ("train", 0)),
        "apply": applied("apply_me", ("train2", 0)),
        "positive": text(TWO_FACES),
        "negative": Node("CLIPTextEncode", {"clip": ("apply", 1)}, dict(NEGATIVE)),
    }
    drawn = {"latent": Node("EmptyLatentImage"), **sampled("two-faces", **FACE_SAMPLING)}
    columns = (
        Column("Model and pictures", MODEL, notes.TWO_FACES_MODEL, [first], [NARROW]),
        Column("Learn", LEARN, notes.TWO_FACES_LEARN, trains, (WIDE, WIDE)),
        Column("Use both", USE, notes.TWO_FACES_USE, (words, drawn), (WIDE, NARROW)),
    )
    return Draft("1c Two faces in one prompt", columns)


def styles() -> Draft:
    """A face from one picture, drawn in several styles."""
    links: dict[str, Source] = {"model": ("base", 0), "clip": ("base", 1), "vae": ("base", 2)}
    links["concepts.concept0"] = ("train", 0)
    settings = {k: v for k, v in FACE_SAMPLING.items() if k != "seed"}
    compare = Node("PersonalizeCompare", links, {"prompts": STYLES, **settings}, carries="CONCEPT")
    report = Node(
        "SaveImage", {"images": ("compare", 0)}, {"filename_prefix": "personalize/my-styles"}
    )
    first = {"base": FACE_BASE, "picture": PICTURE}
    columns = (
        Column("Model and picture", MODEL, notes.STYLES_MODEL, [first], [NARROW]),
        learn(notes.STYLES_LEARN, face("<me>", "picture"), "me-styles"),
        Column("Styles", USE, notes.STYLES_USE, ({"compare": compare}, {"report": report}),
               (WIDE, 500)),
    )  # fmt: skip
    return Draft("1d My face in other styles", columns)


PET = one_picture(
    "2 Learn my pet",
    "PersonalizeTrainCatVersion",
    {"placeholder": "<my-dog>", "class_word": "dog"},
    "my-dog",
    "a photo of a <my-dog> on the beach",
    (notes.THING_MODEL, notes.THING_LEARN, notes.THING_USE),
    CATVERSION_SAMPLING,
)
WORD = one_picture(
    "Learn one word",
    "PersonalizeTrainTextualInversion",
    {"placeholder": "<my-dog>", "init_word": "dog"},
    "my-dog-word",
    "a photo of a <my-dog> on the beach",
    (notes.THING_MODEL, notes.WORD_LEARN, notes.THING_USE),
)
"""The baseline of all methods: with the miniature only."""


def word_and_sam(word: str, shared: bool) -> Stack:
    """What SAM 3 is asked for, in a node of its own.

    shared: whether other nodes take the word, too
    """
    return {
        "word": Node("PrimitiveStringMultiline", widgets={"value": word}, needs_models=not shared),
        "sam": Node("CheckpointLoaderSimple", widgets={"ckpt_name": notes.SAM3}, needs_models=True),
        "asked": Node(
            "CLIPTextEncode", {"clip": ("sam", 1), "text": ("word", 0)}, needs_models=True
        ),
    }


def found(image: Source, stands_in: Source) -> Node:
    links: dict[str, Source] = {"model": ("sam", 0), "image": image, "conditioning": ("asked", 0)}
    return Node("SAM3_Detect", links, stands_in=stands_in)


def from_a_folder() -> Draft:
    """Pictures and captions of a folder, cropped to what SAM 3 finds."""
    folder = {
        "base": BASE,
        "picture": Node("LoadImageTextDataSetFromFolder", widgets={"folder": FOLDER}),
    }
    crops = {
        "found": found(("picture", 0), ("picture", 1)),
        "crop": Node(
            "CropByBBoxes",
            {"image": ("picture", 0), "bboxes": ("found", 1)},
            {"padding": 64},
            stands_in=("picture", 0),
        ),
    }
    train = trained(
        "PersonalizeTrainCustomDiffusion",
        ("crop", 0),
        {"placeholder": "<me>", "class_word": "person"},
        captions=("picture", 1),
    )
    stacks = ({**folder, **word_and_sam("face", shared=False)}, crops)
    columns = (
        Column("Model and pictures", MODEL, notes.FOLDER_MODEL, stacks, (NARROW, NARROW)),
        learn(notes.FOLDER_LEARN, train, "me-folder"),
        use(notes.FOLDER_USE, ("train", 0), "me-folder", "a photo of <me> on the beach"),
    )
    return Draft("3 Learn from a folder", columns)


def swap() -> Draft:
    """DETEX from four pictures with masks, and a prompt that swaps pose and background."""
    pictures = {f"picture{n}": replace(PICTURE, title=f"Picture {n}") for n in (1, 2, 3, 4)}
    for n in (2, 3, 4):
        pictures[f"picture{n}"] = replace(pictures[f"picture{n}"], needs_models=True)
    together = {f"inputs.input{n}": (key, 0) for n, key in enumerate(pictures)}
    listed = Node("CreateList", together, carries="IMAGE", stands_in=("picture1", 0))
    masks = {
        "found": found(("list", 0), ("picture1", 1)),
        "segment": Node(
            "PersonalizeSegmentSubject",
            {"image": ("list", 0), "mask": ("found", 0)},
            stands_in=("picture1", 1),
        ),
    }
    train = trained(
        "PersonalizeTrainDETEX",
        ("list", 0),
        {"placeholder": "<my-dog>", "class_word": "dog"},
        clip_vision=("vision", 0),
        masks=("segment", 0),
        class_word=("word", 0),
    )
    halves = [
        {k: pictures[k] for k in keys}
        for keys in (("picture1", "picture2"), ("picture3", "picture4"))
    ]
    asked = {"list": listed, **word_and_sam("dog", shared=True)}
    models = ({"base": BASE, **halves[0]}, {"vision": VISION, **halves[1]})
    columns = (
        Column("Models and pictures", MODEL, notes.DETEX_MODEL, models, (260, 260)),
        Column("Masks", MODEL, notes.DETEX_MASK, (asked, masks), (290, 290)),
        learn(notes.DETEX_LEARN, train, "my-dog-detex"),
        use(notes.DETEX_USE, ("train", 0), "my-dog-detex", SWAPPED, sample=DETEX_SAMPLING),
    )
    return Draft("4 Swap pose and place", columns)


def encoded(name: str, mask: Stack, note: str, last: Column) -> Draft:
    """ELITE: models and picture, the mask and the encoder, and the last column.

    mask: the nodes that make it, the last one under the key "mask"
    """
    models = {
        "base": BASE,
        "vision": VISION,
        "elite": Node(
            "PersonalizeLoadELITE",
            widgets={"global_mapper": "global_mapper.pt", "local_mapper": "local_mapper.pt"},
        ),
        "picture": PICTURE,
    }
    links: dict[str, Source] = {
        "elite": ("elite", 0),
        "clip_vision": ("vision", 0),
        "image": ("picture", 0),
        "mask": ("mask", 0),
    }
    words = {"placeholder": "<my-dog>", "class_word": "dog"}
    encode = Node("PersonalizeEncodeELITE", links, words)
    stack = {"encode": encode, "save": saved(("encode", 0), "my-dog-elite")}
    columns = (
        Column("Models and picture", MODEL, notes.ELITE_MODEL, [models], [NARROW]),
        Column("Encode", LEARN, note, [mask, stack], [NARROW, NARROW]),
        last,
    )
    return Draft(name, columns)


ONE_PICTURE = encoded(
    "5 One picture without training",
    {
        "sam": Node("PersonalizeLoadSAM", widgets={"sam_name": notes.SAM}, needs_models=True),
        "mask": Node(
            "PersonalizeSegmentSubject",
            {"image": ("picture", 0), "sam_model": ("sam", 0)},
            stands_in=("picture", 1),
        ),
    },
    notes.ELITE_ENCODE,
    use(
        notes.ELITE_GENERATE,
        ("encode", 0),
        "my-dog-elite",
        "a photo of <my-dog> on the beach",
        {"local_strength": 0.8},
        ELITE_SAMPLING,
    ),
)
EDIT = encoded(
    "6 Edit a picture",
    {
        "background": Node(
            "LoadBackgroundRemovalModel",
            widgets={"bg_removal_name": notes.BACKGROUND},
            needs_models=True,
        ),
        "mask": Node(
            "RemoveBackground",
            {"bg_removal_model": ("background", 0), "image": ("picture", 0)},
            stands_in=("picture", 1),
        ),
    },
    notes.EDIT_ENCODE,
    use(
        notes.ELITE_EDIT,
        ("encode", 0),
        "my-dog-edited",
        "a photo of <my-dog> wearing a red hat",
        {"local_strength": 0.6},
        {**ELITE_SAMPLING, "denoise": 0.75},
        {
            "scaled": Node(
                "ImageScale",
                {"image": ("picture", 0)},
                {"upscale_method": "lanczos", "width": 512, "height": 512, "crop": "center"},
            ),
            "latent": Node("VAEEncode", {"pixels": ("scaled", 0), "vae": ("base", 2)}),
        },
    ),
)


def two_concepts() -> Draft:
    """Two saved concepts, each in its own half of one picture."""
    halves = {
        "left": ("a photo of <me> person on the beach", 0.0),
        "right": ("a photo of a <my-dog> on the beach", 0.5),
    }
    concepts = {"base": BASE, "me": loaded("me"), "dog": loaded("my-dog")}
    applies = {"apply_me": applied("base", ("me", 0)), "apply": applied("apply_me", ("dog", 0))}
    prompts = {
        **{key: text(prompt) for key, (prompt, _) in halves.items()},
        "negative": Node("CLIPTextEncode", {"clip": ("apply", 1)}, dict(NEGATIVE)),
        "latent": Node("EmptyLatentImage", widgets={"width": 1024, "height": 512}),
    }
    area = {"width": 0.5, "height": 1.0, "y": 0.0, "strength": 1.0}
    areas = {
        f"{key}_half": Node(
            "ConditioningSetAreaPercentage", {"conditioning": (key, 0)}, {**area, "x": x}
        )
        for key, (_, x) in halves.items()
    }
    both: dict[str, Source] = {
        f"conditioning_{n}": (key, 0) for n, key in enumerate(areas, start=1)
    }
    joined = {**areas, "both": Node("ConditioningCombine", both)}
    drawn = sampled("two-concepts", "both")
    columns = (
        Column("Model and concepts", MODEL, notes.TWO_MODEL, [concepts, applies], (NARROW, NARROW)),
        Column("A prompt for each half", LEARN, notes.TWO_PROMPT, [prompts], [WIDE]),
        Column("One picture", USE, notes.TWO_DRAW, [joined, drawn], (NARROW, NARROW)),
    )
    return Draft("7 Two concepts in one picture", columns)


def comparison() -> Draft:
    """Two saved concepts at two strengths with two prompts, as one grid."""
    links: dict[str, Source] = {"model": ("base", 0), "clip": ("base", 1), "vae": ("base", 2)}
    links |= {f"concepts.concept{n}": (key, 0) for n, key in enumerate(("first", "second"))}
    settings = {"prompts": COMPARED, "strengths": "0.5, 1"}
    compare = Node("PersonalizeCompare", links, settings, carries="CONCEPT")
    report = Node(
        "SaveImage", {"images": ("compare", 0)}, {"filename_prefix": "personalize/compared"}
    )
    concepts = {"base": BASE, "first": loaded("me"), "second": loaded("me-folder")}
    stacks = ({"compare": compare}, {"report": report})
    columns = (
        Column("Model and concepts", MODEL, notes.COMPARE_MODEL, [concepts], [NARROW]),
        Column("Compare", USE, notes.COMPARE, stacks, (WIDE, 500)),
    )
    return Draft("8 Compare concepts", columns)


def evaluation() -> Draft:
    """A saved concept, four pictures of it, and their scores."""
    words = {
        "apply": applied("base", ("concept", 0)),
        "positive": text(SCORED_PROMPT),
        "negative": Node("CLIPTextEncode", {"clip": ("apply", 1)}, dict(NEGATIVE)),
        "latent": Node("EmptyLatentImage", widgets={"batch_size": 4}),
    }
    drawn = {k: node for k, node in sampled("").items() if k != "picture_saved"}
    evaluate = Node(
        "PersonalizeEvaluate",
        {"generated": ("decode", 0), "references": ("picture", 0)},
        {"prompt": SCORED_PROMPT, "class_word": "dog", "clip_folder": SCORER},
    )
    report = Node(
        "SaveImage", {"images": ("evaluate", 1)}, {"filename_prefix": "personalize/my-dog-scores"}
    )
    first = {"base": BASE, "concept": loaded("my-dog"), "picture": PICTURE}
    scored = ({"evaluate": evaluate}, {"report": report})
    columns = (
        Column("Model, concept, picture", MODEL, notes.SCORE_MODEL, [first], [NARROW]),
        Column("Pictures", LEARN, notes.SCORE_DRAW, [words, drawn], (WIDE, NARROW)),
        Column("Scores", USE, notes.SCORE, scored, (WIDE, WIDE)),
    )
    return Draft("9 Score a concept", columns)


SWAP = swap()

TEMPLATES = (
    FACE,
    on_sdxl(
        FACE,
        "1b Learn my face with SDXL",
        (notes.FACE_MODEL_XL, notes.FACE_LEARN_XL, notes.FACE_USE_XL),
        "me-sdxl",
    ),
    two_faces(),
    styles(),
    PET,
    on_sdxl(
        PET, "2b Learn my pet with SDXL", (notes.THING_MODEL_XL, notes.THING_USE_XL), "my-dog-sdxl"
    ),
    from_a_folder(),
    SWAP,
    on_sdxl(
        SWAP,
        "4b Swap pose and place with SDXL",
        (notes.DETEX_MODEL_XL, notes.DETEX_MASK, notes.DETEX_LEARN_XL, notes.DETEX_USE),
        "my-dog-detex-sdxl",
    ),
    ONE_PICTURE,
    EDIT,
    two_concepts(),
    comparison(),
    evaluation(),
)
"""As the frontend sorts them, by name as text: what varies another one has its number and a letter,
since 10 would come before 2."""
