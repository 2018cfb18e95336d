"""What saved workflows rely on: ids, names and order of inputs; and what makes a node pleasant."""

import asyncio
import json
from dataclasses import MISSING, fields

import pytest
from personalize.nodes import NODE_CLASS_MAPPINGS
from personalize.nodes.extension import PersonalizeExtension
from personalize.training.cross_init import CrossInitConfig
from personalize.training.custom_diffusion import CustomDiffusionConfig
from personalize.training.detex import DetexConfig
from personalize.training.textual_inversion import TextualInversionConfig

pytestmark = pytest.mark.host

SCHEDULE = ["steps", "batch_size", "learning_rate"]
SOCKETS = ["model", "clip", "vae", "images", "placeholder"]
OPTIONS = [
    *("resolution", "precision", "gradient_checkpointing", "flip", "templates"),
    *("preview_prompt", "preview_every", "save_every", "resume"),
]

# Node id: display name, required inputs, optional inputs, outputs. Optional inputs may be added at
# the end only: a saved workflow lists the values of widgets in their order.
PROMISED = {
    "PersonalizeTrainTextualInversion": (
        "Train Textual Inversion",
        [*SOCKETS, "init_word", "vectors", *SCHEDULE, "train_seed"],
        [*OPTIONS, "micro_batch", "captions", "preset", "keep_activations"],
        ["concept", "losses"],
    ),
    "PersonalizeTrainCrossInit": (
        "Train Cross Initialization",
        [*SOCKETS, "class_word", "init_from", *SCHEDULE, "reg_weight", "train_seed"],
        [
            *("preset", "regulariser", *OPTIONS, "micro_batch", "captions"),
            *("initial_words", "words", "illustrations", "keep_activations"),
        ],
        ["concept", "losses"],
    ),
    "PersonalizeTrainCatVersion": (
        "Train CatVersion",
        [*SOCKETS, "class_word", "residual_tokens", "layers", *SCHEDULE, "train_seed"],
        ["logit_bias", *OPTIONS, "micro_batch", "last_layer", "preset", "keep_activations"],
        ["concept", "losses"],
    ),
    "PersonalizeTrainCustomDiffusion": (
        "Train Custom Diffusion",
        [*SOCKETS, "class_word", *SCHEDULE, "train_seed"],
        [
            *("prior_images", "prior_count", "prior_weight", "init_word", *OPTIONS),
            *("rank", "micro_batch", "captions", "zoom", "preset", "keep_activations"),
            *("second_images", "second_prior_images", "second_class_word", "second_name"),
            "second_init_word",
        ],
        ["concept", "losses"],
    ),
    "PersonalizeTrainDETEX": (
        "Train DETEX",
        [
            *("model", "clip", "vae", "clip_vision", "images", "masks", "placeholder"),
            *("class_word", "pose_word", *SCHEDULE, "train_seed"),
        ],
        [
            *("prior_images", "prior_count", "prior_weight"),
            *("attention_weight", "mask_probability", "init_word", *OPTIONS),
            *("mask_marks", "rank", "micro_batch", "attention_norm", "preset", "keep_activations"),
        ],
        ["concept", "losses"],
    ),
    "PersonalizeTrainELITE": (
        "Train ELITE Encoder",
        [
            *("model", "clip", "vae", "clip_vision", "images"),
            *("stage", *SCHEDULE, "train_seed"),
        ],
        [
            *("masks", "elite", *OPTIONS, "accumulation", "average", "mask_marks"),
            *("micro_batch", "preset", "keep_activations"),
        ],
        ["elite", "losses"],
    ),
    "PersonalizeLoadELITE": (
        "Load ELITE Encoder",
        ["global_mapper", "local_mapper"],
        [],
        ["elite"],
    ),
    "PersonalizeSaveELITE": (
        "Save ELITE Encoder",
        ["elite", "filename"],
        [],
        [],
    ),
    "PersonalizeEncodeELITE": (
        "ELITE Encode",
        ["elite", "clip_vision", "image", "placeholder"],
        ["mask", "class_word", "mask_marks"],
        ["concept"],
    ),
    "PersonalizeLoadConcept": (
        "Load Concept",
        ["concept_name"],
        ["placeholder", "class_word", "token"],
        ["concept"],
    ),
    "PersonalizeSaveConcept": (
        "Save Concept",
        ["concept", "filename", "also_as_embedding"],
        ["keep_pictures", "embed_encoder", "preview", "rank"],
        [],
    ),
    "PersonalizeSaveLoRA": (
        "Save Concept as LoRA",
        ["concept", "filename", "rank"],
        ["model"],
        [],
    ),
    "PersonalizeApplyConcept": (
        "Apply Concept",
        [
            *("model", "clip", "concept"),
            *("strength", "local_strength", "start_percent", "end_percent"),
        ],
        ["own_prompts_only"],
        ["model", "clip"],
    ),
    "PersonalizeEvaluate": (
        "Evaluate Concept",
        ["generated", "references", "prompt", "class_word", "clip_folder"],
        [
            *("generated_masks", "reference_masks", "dino_folder", "identity_folder"),
            *("placeholder", "filename", "file_format", "mask_marks"),
        ],
        ["scores", "report"],
    ),
    "PersonalizeCompare": (
        "Compare Concepts",
        [
            *("model", "clip", "vae", "concepts", "prompts", "strengths"),
            *("sample_seed", "steps", "cfg"),
        ],
        [
            *("negative", "resolution", "sampler_name", "scheduler"),
            *("references", "clip_folder"),
        ],
        ["report", "images"],
    ),
    "PersonalizeAttentionMaps": (
        "Show Attention Maps",
        ["model", "clip", "prompt", "latent"],
        [
            *("words", "vae", "steps", "layers", "same_scale", "start_percent", "end_percent"),
            *("sample_seed", "cfg", "negative"),
        ],
        ["images", "maps", "report"],
    ),
    "PersonalizeLoadSAM": (
        "Load SAM",
        ["sam_name"],
        [],
        ["sam_model"],
    ),
    "PersonalizeSegmentSubject": (
        "Segment Subject",
        ["image"],
        [
            *("sam_model", "points", "box", "negative_points", "candidate"),
            *("largest_part", "fill_holes", "grow", "soften", "mask", "mask_marks"),
        ],
        ["mask", "candidates", "overlay"],
    ),
}
OUTPUT_NODES = {
    *(name for name in PROMISED if name.startswith("PersonalizeTrain")),  # alone, they run
    *("PersonalizeSaveConcept", "PersonalizeSaveELITE", "PersonalizeSaveLoRA"),
    "PersonalizeEvaluate",  # shows its report, and may write a file
    *("PersonalizeCompare", "PersonalizeAttentionMaps"),
}
TYPES = {
    "model": "MODEL",
    "clip": "CLIP",
    "vae": "VAE",
    "images": "IMAGE",
    "concept": "CONCEPT",
    "losses": "LOSS_MAP",
    "prior_images": "IMAGE",
    "masks": "MASK",
    "elite": "ELITE_ENCODER",
    "clip_vision": "CLIP_VISION",
    "image": "IMAGE",
    "mask": "MASK",
    "generated": "IMAGE",
    "references": "IMAGE",
    "generated_masks": "MASK",
    "reference_masks": "MASK",
    "scores": "STRING",
    "report": "IMAGE",
    "sam_model": "SAM_MODEL",
    "candidates": "MASK",
    "overlay": "IMAGE",
}
CONFIGS = {
    "PersonalizeTrainTextualInversion": TextualInversionConfig,
    "PersonalizeTrainCrossInit": CrossInitConfig,
    "PersonalizeTrainCustomDiffusion": CustomDiffusionConfig,
    "PersonalizeTrainDETEX": DetexConfig,
}


@pytest.fixture(params=PROMISED)
def node(request):
    return NODE_CLASS_MAPPINGS[request.param]


def all_inputs(node):
    """Every input as the host tells it to a browser: (name, type, options)."""
    groups = node.INPUT_TYPES()
    return [
        (name, entry[0], entry[1] if len(entry) > 1 else {})
        for group in ("required", "optional")
        for name, entry in groups.get(group, {}).items()
    ]


def test_the_promised_nodes_and_no_others_less():
    assert set(PROMISED) <= set(NODE_CLASS_MAPPINGS)


def test_the_host_gets_every_node():
    listed = asyncio.run(PersonalizeExtension().get_node_list())
    assert listed == list(NODE_CLASS_MAPPINGS.values())
    assert [n.GET_SCHEMA().node_id for n in listed] == list(NODE_CLASS_MAPPINGS)


def test_a_node_is_constructed_without_a_model(node):
    assert isinstance(node(), node)


def test_names_and_order(node):
    schema = node.GET_SCHEMA()
    name, required, optional, outputs = PROMISED[schema.node_id]
    assert schema.display_name == name
    assert list(node.INPUT_TYPES()["required"]) == required
    assert list(node.INPUT_TYPES().get("optional", {}))[: len(optional)] == optional
    assert [i.id for i in schema.inputs][: len(required + optional)] == required + optional
    assert [o.display_name for o in schema.outputs] == outputs
    for one in [*schema.inputs, *schema.outputs]:
        known = getattr(one, "id", None) or one.display_name
        if known in TYPES:
            assert one.get_io_type() == TYPES[known]


def test_a_node_describes_itself(node):
    schema = node.GET_SCHEMA()
    assert schema.category.startswith("personalize/")
    assert schema.description and schema.search_aliases
    assert schema.is_output_node == (schema.node_id in OUTPUT_NODES)


SEARCHED = ("face", "portrait", "character", "identity", "lora", "style")
FOUND_BY = {
    "PersonalizeSegmentSubject": ("remove background", "segment anything", "face"),
    "PersonalizeLoadSAM": ("sam", "segment anything"),
    "PersonalizeEvaluate": ("clip score", "identity", "face similarity"),
    "PersonalizeCompare": ("xy plot", "grid", "face", "lora", "style"),
    "PersonalizeAttentionMaps": ("heat map", "attention"),
    "PersonalizeEncodeELITE": (*SEARCHED, "ip-adapter", "face id"),
    "PersonalizeSaveLoRA": (*SEARCHED, "export"),
}


def test_a_node_is_found_by_what_people_search(node):
    schema = node.GET_SCHEMA()
    wanted = FOUND_BY.get(schema.node_id, SEARCHED)
    aliases = schema.search_aliases
    assert set(wanted) <= set(aliases) and len(aliases) == len(set(aliases))
    assert all(alias == alias.lower() for alias in aliases)


def test_every_input_has_a_tooltip(node):
    assert [name for name, _, options in all_inputs(node) if not options.get("tooltip")] == []


def test_no_seed_that_changes_by_itself(node):
    for name, kind, options in all_inputs(node):
        assert name not in ("seed", "noise_seed")
        if kind == "INT":
            assert not options.get("control_after_generate")


def test_numbers_have_bounds_and_a_step_that_shows_them(node):
    for name, kind, options in all_inputs(node):
        if kind in ("FLOAT", "INT"):
            assert options["min"] <= options["default"] <= options["max"], name
        if kind == "FLOAT":
            assert options["step"] and options["round"], name
            shown = round(options["default"] / options["round"]) * options["round"]
            assert shown == pytest.approx(options["default"]), name


def test_the_browser_can_read_it(node):
    info = json.loads(json.dumps(node.GET_NODE_INFO_V1()))
    assert info["name"] in PROMISED and "python_module" in info


@pytest.mark.parametrize("node_id", CONFIGS)
def test_a_widgets_default_is_its_configs(node_id):
    config = CONFIGS[node_id]
    defaults = {f.name: f.default for f in fields(config) if f.default is not MISSING}
    inputs = {name: options for name, _, options in all_inputs(NODE_CLASS_MAPPINGS[node_id])}
    shared = set(defaults) & set(inputs) - {"placeholder", "init_word"}
    assert {"steps", "batch_size", "learning_rate", "flip", "resolution"} <= shared
    for name in shared:
        assert inputs[name]["default"] == getattr(defaults[name], "value", defaults[name]), name
    only_in_config = set(defaults) - set(inputs)
    for_studies = {"mappers", "pose_sees", "first_token", "prior_eta", "literal_output"}
    assert only_in_config - for_studies == {"weight_decay"}


@pytest.mark.parametrize("node_id", CONFIGS)
def test_knobs_of_a_train_node_are_advanced(node_id):
    inputs = {name: options for name, _, options in all_inputs(NODE_CLASS_MAPPINGS[node_id])}
    advanced = {name for name, options in inputs.items() if options.get("advanced")}
    assert advanced >= set(OPTIONS) - {"resolution"}
    assert not advanced & {*SOCKETS, *SCHEDULE}
    assert NODE_CLASS_MAPPINGS[node_id].INPUT_IS_LIST
