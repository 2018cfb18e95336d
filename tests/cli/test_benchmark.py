"""The benchmark without a server: data on disk, jobs from schemas, results, the page."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from personalize.cli.benchmark import command, page
from personalize.cli.benchmark.command import (
    Benchmark,
    Plan,
    check_names,
    make_parser,
    parse_overrides,
    settings_of,
)
from personalize.cli.benchmark.data import DataError, Subject, read_prompts, read_subjects
from personalize.cli.benchmark.jobs import (
    PLACEHOLDER,
    JobError,
    Settings,
    draw_workflow,
    find_methods,
    learn_workflow,
)
from personalize.cli.benchmark.page import write_page
from personalize.cli.benchmark.results import (
    Cell,
    Drawn,
    LearnedConcept,
    Result,
    digest,
    drawn_path,
    read_drawn,
    read_learned,
    write,
    write_table,
)
from personalize.cli.benchmark.uploads import mask_to_send, picture_to_send
from personalize.cli.client import ClientError
from personalize.concepts.errors import DiskError
from PIL import Image

DREAMBENCH = """Classes

subject_name,class
duck_toy,toy
wolf_plushie,stuffed animal
dog6,dog

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} wearing a red hat'.format(unique_token, class_token)
]
"""
SETTINGS = Settings(checkpoint="sd.safetensors", clip="clip-l", resolution=64)


@pytest.fixture
def folder(tmp_path):
    for name in ("duck_toy", "wolf_plushie", "dog6"):
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (20, 16 + number), "red").save(tmp_path / name / f"0{number}.jpg")
    (tmp_path / "prompts_and_classes.txt").write_text(DREAMBENCH, encoding="utf-8")
    return tmp_path


# --- data -------------------------------------------------------------------------------------


def test_dreambench_reads(folder):
    subjects = {s.name: s for s in read_subjects(folder)}
    assert list(subjects) == ["dog6", "duck_toy", "wolf_plushie"]
    assert subjects["wolf_plushie"].class_word == "stuffed animal"
    assert [p.name for p in subjects["dog6"].pictures] == ["00.jpg", "01.jpg"]
    assert subjects["dog6"].live and not subjects["dog6"].person
    prompts = read_prompts(folder / "prompts_and_classes.txt")
    assert prompts.of(subjects["duck_toy"]) == ("a {} in the jungle", "a red {}")
    assert prompts.of(subjects["dog6"]) == ("a {} wearing a red hat",)
    assert [s.name for s in read_subjects(folder, ["dog6"])] == ["dog6"]


def test_the_row_that_an_error_asks_for_is_read(folder):
    (folder / "dog6").rename(folder / "my dog (old)")
    with pytest.raises(DataError) as told:
        read_subjects(folder, ["my dog (old)"])
    row = re.search("Add the row '(.+)' \\(or", str(told.value))[1]
    file = folder / "prompts_and_classes.txt"
    file.write_text(DREAMBENCH.replace("dog6,dog", row), encoding="utf-8")
    (subject,) = read_subjects(folder, ["my dog (old)"])
    assert subject.class_word == "dog"


def test_plain_files_do_as_well(folder):
    (folder / "prompts_and_classes.txt").unlink()
    for name in ("duck_toy", "wolf_plushie", "dog6"):
        (folder / name / "class.txt").write_text("thing\n")
    file = folder / "prompts.txt"
    file.write_text("# mine\na {} at home\n\na {} abroad\n")
    assert {s.class_word for s in read_subjects(folder)} == {"thing"}
    assert read_prompts(file).live == ("a {} at home", "a {} abroad")


@pytest.mark.parametrize("ending", ["_mask", "_bg"])
def test_masks_beside_the_pictures(folder, ending):
    for number in range(2):
        size = (20, 16 + number)
        Image.new("L", size, 255).save(folder / "dog6" / f"0{number}{ending}.png")
    (subject,) = read_subjects(folder, ["dog6"])
    assert len(subject.pictures) == len(subject.masks) == 2
    (folder / "dog6" / f"01{ending}.png").unlink()
    with pytest.raises(DataError, match="dog6 has masks, but none of 01.jpg. Add 01_mask.png"):
        read_subjects(folder)


def test_cut_outs_are_their_own_masks_and_broken_files_are_left_out(folder):
    for number in range(2):
        cut_out = Image.new("RGBA", (20, 16), (255, 0, 0, 0))
        cut_out.paste((255, 0, 0, 255), (5, 4, 15, 12))
        (folder / "dog6" / f"0{number}.jpg").unlink()
        cut_out.save(folder / "dog6" / f"0{number}.png")
    (folder / "dog6" / "02.png").write_bytes(b"no picture")
    (folder / "dog6" / "03.heic").touch()
    (subject,) = read_subjects(folder, ["dog6"])
    assert subject.masks == subject.pictures and len(subject.pictures) == 2
    listed, broken = subject.left_out
    assert listed.startswith("Left out: 03.heic.") and "02.png cannot be read" in broken
    Image.new("RGB", (20, 16)).save(folder / "dog6" / "04.jpg")
    assert read_subjects(folder, ["dog6"])[0].masks == ()
    for path in (folder / "dog6").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="No picture of dog6 can be read"):
        read_subjects(folder, ["dog6"])


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_what_is_sent_shows_what_we_read(tmp_path):
    """The host's loader knows neither EXIF's turns nor labels nor 16 bits."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "plain.png")
    assert picture_to_send(tmp_path / "plain.png") == (
        (tmp_path / "plain.png").read_bytes(), ".png"
    )  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(noise).transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "turned.png", exif=exif)
    content, ending = picture_to_send(tmp_path / "turned.png")
    assert ending == ".png" and np.array_equal(opened(content), noise)
    frames = [Image.fromarray(noise), Image.fromarray(noise[::-1])]
    frames[0].save(tmp_path / "moves.png", save_all=True, append_images=frames[1:])
    content, _ = picture_to_send(tmp_path / "moves.png")
    with Image.open(io.BytesIO(content)) as sent:
        assert getattr(sent, "n_frames", 1) == 1 and np.array_equal(np.asarray(sent), noise)
    labels = np.zeros((16, 20), np.uint8)
    labels[4:12, 5:15] = 1
    Image.fromarray(labels).save(tmp_path / "labels.png")
    content, _ = mask_to_send(tmp_path / "labels.png", tmp_path / "plain.png")
    assert np.array_equal(opened(content), labels * 255)
    Image.fromarray(labels * 255).save(tmp_path / "mask.png")
    content, _ = mask_to_send(tmp_path / "mask.png", tmp_path / "plain.png")
    assert content == (tmp_path / "mask.png").read_bytes()


def test_data_that_cannot_be_read(folder, tmp_path_factory):
    with pytest.raises(DataError, match="no subject cat9 in .* It has: dog6, duck_toy, wolf"):
        read_subjects(folder, ["cat9"])
    with pytest.raises(DataError, match="There is no folder .*gone"):
        read_subjects(folder / "gone")
    with pytest.raises(DataError, match="no sub-folder with pictures"):
        read_subjects(tmp_path_factory.mktemp("empty"))
    (folder / "dog6").rename(folder / "rex")
    with pytest.raises(DataError, match="What is rex. Add the row 'rex,dog'"):
        read_subjects(folder)
    file = folder / "prompts.txt"
    file.write_text("a {} here\nno slot\n")
    with pytest.raises(DataError, match="this line has none: 'no slot'"):
        read_prompts(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(folder / "gone.txt")


# --- options ----------------------------------------------------------------------------------


def test_overrides():
    found = parse_overrides(
        ["5", "CatVersion=7"], ["CatVersion.layers=2", "flip=false", "DETEX.pose_word=view"]
    )
    assert found == {
        "": {"steps": 5, "flip": False},
        "CatVersion": {"steps": 7, "layers": 2},
        "DETEX": {"pose_word": "view"},
    }
    settings = Settings("a", "b", overrides=found)
    assert settings.of_method("CatVersion") == {"steps": 7, "flip": False, "layers": 2}
    assert settings.of_method("ELITE") == {"steps": 5, "flip": False}


@pytest.mark.parametrize("steps, others", [(["many"], []), ([], ["layers"]), ([], ["A.=2"])])
def test_overrides_that_mean_nothing(steps, others):
    with pytest.raises(DataError, match="expected"):
        parse_overrides(steps, others)


def test_every_setting_is_an_option():
    given = ["--checkpoint=sd", "--clip=c", "--dino=d", "--images=2", "--sam=s", "--guidance=5"]
    assert settings_of(make_parser().parse_args(["data", *given])) == Settings(
        checkpoint="sd", clip="c", dino="d", images=2, sam="s", guidance=5.0
    )


def listing(**combos):
    """A node whose combos offer these names."""
    return {"input": {"required": {name: [list(names), {}] for name, names in combos.items()}}}


@pytest.mark.parametrize(
    "change, told",
    [
        ({"sampler": "dim"}, "--sampler dim: the server does not list it. It has: ddim"),
        ({"scheduler": "norm"}, "--scheduler norm: the server does not list it. It has: normal"),
        ({"elite_global": "g", "elite_local": "l"}, "--elite-local l: the server does not list it"),
        ({"clip_vision": "v", "clip_vision_loader": "KSampler"}, "KSampler .* has no input clip_n"),
    ],
)
def test_names_that_the_server_does_not_list_are_told_at_once(change, told):
    info = {
        "CheckpointLoaderSimple": listing(ckpt_name=["sd"]),
        "PersonalizeEvaluate": listing(clip_folder=["c"]),
        "PersonalizeLoadELITE": listing(global_mapper=["g"], local_mapper=["in the same file"]),
        "KSampler": listing(sampler_name=["ddim"], scheduler=["normal"]),
    }
    check_names(info, Settings("sd", "c"))
    with pytest.raises(DataError, match=told):
        check_names(info, Settings("sd", "c", **change))


# --- jobs -------------------------------------------------------------------------------------

SUBJECT = Subject("dog6", "dog", (Path("00.jpg"), Path("01.jpg")))
FILES, MASKS = ["a.jpg", "b.jpg"], ["am.png", "bm.png"]


@pytest.fixture(scope="module")
def methods():
    """As a server with this pack tells them, from its schemas."""
    pytest.importorskip("comfy_api", reason="no ComfyUI checkout")
    from personalize.host.folders import register_folders
    from personalize.nodes import NODE_CLASS_MAPPINGS

    register_folders()
    return find_methods({n: node.GET_NODE_INFO_V1() for n, node in NODE_CLASS_MAPPINGS.items()})


@pytest.mark.host
def test_every_train_node_is_a_method(methods):
    from personalize.nodes import NODE_CLASS_MAPPINGS

    makers = [
        name.removeprefix("PersonalizeTrain").removeprefix("PersonalizeEncode")
        for name, node in NODE_CLASS_MAPPINGS.items()
        if {"image", "images"} & {i.id for i in node.GET_SCHEMA().inputs}
        and "CONCEPT" in node.GET_NODE_INFO_V1()["output"]
    ]
    assert list(methods) == ["Untouched", *makers]
    assert {"TextualInversion", "CrossInit", "CatVersion", "CustomDiffusion", "ELITE"} <= {*methods}


@pytest.mark.host
def test_prompts_name_the_subject_as_each_method_wants_it(methods):
    prompts = {name: m.prompt("a {} here", "dog") for name, m in methods.items()}
    assert prompts["CatVersion"] == prompts["CustomDiffusion"] == f"a {PLACEHOLDER} here"
    assert prompts["CrossInit"] == f"a {PLACEHOLDER} dog here"
    assert prompts["Untouched"] == "a dog here"


@pytest.mark.host
def test_a_job_sets_what_it_knows_and_leaves_the_rest_at_its_default(methods):
    settings = Settings(
        "sd", "clip", resolution=64, overrides={"": {"steps": 3}, "CrossInit": {"flip": False}}
    )
    workflow = learn_workflow(
        methods["CrossInit"],
        SUBJECT,
        files=FILES,
        masks=[],
        settings=settings,
        seed=7,
        filename="x",
    )
    inputs = workflow["train"]["inputs"]
    assert inputs["model"] == ["base", 0] and inputs["images"] == ["pictures", 0]
    assert (inputs["steps"], inputs["flip"], inputs["train_seed"]) == (3, False, 7)
    assert inputs["preset"] == "custom"  # a preset would put its own steps in their place
    assert (inputs["init_from"], inputs["class_word"]) == ("class word", "dog")
    assert inputs["learning_rate"] == 0.005 and inputs["preview_every"] == 0
    assert workflow["pictures"]["inputs"] == {
        "inputs.input0": ["picture0", 0], "inputs.input1": ["picture1", 0]
    }  # fmt: skip
    plain = learn_workflow(
        methods["CrossInit"],
        SUBJECT,
        files=FILES,
        masks=[],
        settings=Settings("sd", "clip"),
        seed=7,
        filename="x",
    )
    assert plain["train"]["inputs"]["preset"] == "quality"
    one = Settings("sd", "clip", references=1)
    workflow = learn_workflow(
        methods["CatVersion"], SUBJECT, files=FILES, masks=[], settings=one, seed=7, filename="x"
    )
    assert list(workflow["pictures"]["inputs"]) == ["inputs.input0"]


@pytest.mark.host
def test_elite_gets_its_encoder_and_square_pictures(methods):
    with pytest.raises(JobError, match="ELITE needs --elite-global and --elite-local"):
        learn_workflow(
            methods["ELITE"],
            SUBJECT,
            files=FILES,
            masks=[],
            settings=SETTINGS,
            seed=0,
            filename="x",
        )
    given = Settings("sd", "c", clip_vision="v", elite_global="g.pt", elite_local="l.pt")
    workflow = learn_workflow(
        methods["ELITE"], SUBJECT, files=FILES, masks=MASKS, settings=given, seed=0, filename="x"
    )
    inputs = workflow["train"]["inputs"]
    kinds = {name: workflow[link[0]]["class_type"] for name, link in inputs.items()
             if isinstance(link, list)}  # fmt: skip
    assert kinds == {
        "elite": "PersonalizeLoadELITE", "clip_vision": "CLIPVisionLoader",
        "image": "ImageScale", "mask": "ImageToMask",
    }  # fmt: skip
    assert "base" not in workflow and "pictures" not in workflow


@pytest.mark.host
def test_an_unknown_input_is_told(methods):
    wrong = Settings("sd", "c", overrides={"CatVersion": {"layer": 1}})
    with pytest.raises(JobError, match="CatVersion has no input layer"):
        learn_workflow(
            methods["CatVersion"],
            SUBJECT,
            files=FILES,
            masks=[],
            settings=wrong,
            seed=0,
            filename="x",
        )


def test_masks_reach_the_scores():
    plain = draw_workflow("c", "p", SUBJECT, files=FILES, masks=[], settings=SETTINGS, seed=0)
    masked = draw_workflow("c", "p", SUBJECT, files=FILES, masks=MASKS, settings=SETTINGS, seed=0)
    segmented = draw_workflow(
        "c",
        "p",
        SUBJECT,
        files=FILES,
        masks=[],
        settings=Settings("sd", "c", sam="vit_b.pth"),
        seed=0,
    )
    wanted = ("reference_masks", "generated_masks")
    found = [[n for n in wanted if n in w["scores"]["inputs"]] for w in (plain, masked, segmented)]
    assert found == [[], ["reference_masks"], [*wanted]]
    assert masked["mask1"]["class_type"] == "LoadImageMask"
    assert segmented["mask1"]["class_type"] == "PersonalizeSegmentSubject"


def test_the_baseline_draws_with_the_model_as_it_is():
    workflow = draw_workflow("", "a dog", SUBJECT, files=FILES, masks=[], settings=SETTINGS, seed=0)
    assert workflow["sample"]["inputs"]["model"] == ["base", 0]
    assert "apply" not in workflow and "concept" not in workflow


# --- results ----------------------------------------------------------------------------------


def drawn(cell, output, number=0, value=0.3, pictures=2):
    names = tuple(f"prompt{number:02}-{n}.png" for n in range(pictures))
    cell.folder(output).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (16, 16), "blue").save(cell.folder(output) / name)
    row = {"CLIP-T": value, "DINO-I": value + 0.1}
    return Drawn("x", number, "a {} <here>", "a dog <here>", 5, names, (row,) * pictures, row)


def test_results_come_back_and_half_written_ones_do_not(tmp_path):
    cell = Cell("dog6", "CatVersion", 1)
    assert read_learned(tmp_path, cell) is None and read_drawn(tmp_path, cell, 0) is None
    learned = LearnedConcept("x", "benchmark/dog6.safetensors", 12.5, 100)
    write(cell.folder(tmp_path) / "concept.json", learned)
    assert read_learned(tmp_path, cell) == learned
    one = drawn(cell, tmp_path)
    path = drawn_path(tmp_path, cell, 0)
    write(path, one)
    assert read_drawn(tmp_path, cell, 0) == one
    path.write_text(path.read_text()[:-20])
    assert read_drawn(tmp_path, cell, 0) is None
    write(path, one)
    (cell.folder(tmp_path) / one.pictures[1]).unlink()
    assert read_drawn(tmp_path, cell, 0) is None


def test_results_of_another_version_are_made_anew(tmp_path):
    cell = Cell("dog6", "CatVersion", 1)
    for text in ('{"made_by": "x", "concept": "c", "more": 1}', "[1]", "null"):
        (cell.folder(tmp_path)).mkdir(parents=True, exist_ok=True)
        (cell.folder(tmp_path) / "concept.json").write_text(text)
        assert read_learned(tmp_path, cell) is None


def test_a_page_that_another_program_has_open_does_not_end_the_run(tmp_path, capsys, monkeypatch):
    """It is written with the next cell; only the last time somebody must be told that it is not."""
    told = []

    def write_once(*_):
        told.append(1)
        if len(told) == 1:
            raise DiskError("index.html is open elsewhere.")
        return tmp_path / "index.html"

    monkeypatch.setattr(command, "write_page", write_once)
    monkeypatch.setattr(Benchmark, "_run_cell", lambda self, job: True)
    plan = Plan([Subject("ball", "ball", ())], None, 0, [command.MethodNode("Untouched")], (0, 1))
    monkeypatch.setattr(Plan, "jobs", lambda self: 2)
    Benchmark(None, plan, SETTINGS, tmp_path).run()
    assert len(told) == 2 and "index.html is open elsewhere." in capsys.readouterr().out


@pytest.mark.parametrize(
    "error, told",
    [
        (ClientError("/api/object_info: 404 Not Found"), "/api/object_info: 404 Not Found"),
        (DiskError("No room on the disk."), "No room on the disk."),
        (
            ConnectionError("The ComfyUI at http://x does not answer."),
            "at http://x does not answer",
        ),
    ],
)
def test_what_ends_the_run_is_told_in_its_own_words(monkeypatch, capsys, error, told):
    def fails(*_):
        raise error

    monkeypatch.setattr(command, "_run", fails)
    assert command.main(["data", "--checkpoint", "sd", "--clip", "c"]) == 2
    out = capsys.readouterr().out
    assert told in out and "Run the same command again" in out


def test_a_changed_workflow_is_another_one():
    first = draw_workflow("c", "p", SUBJECT, files=FILES, masks=[], settings=SETTINGS, seed=0)
    assert digest(first) == digest(
        draw_workflow("c", "p", SUBJECT, files=FILES, masks=[], settings=SETTINGS, seed=0)
    )
    assert digest(first) != digest(
        draw_workflow("c", "p", SUBJECT, files=FILES, masks=[], settings=SETTINGS, seed=1)
    )


class Page(HTMLParser):
    """What a page would load, and whether its tags fit."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loads += [v for k, v in attributes if k in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass  # of SVG: nothing is open after it

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def results(tmp_path, folder):
    found = []
    for subject in ("dog6", "duck_toy"):
        for method, value in (("Untouched", 0.2), ("CatVersion", 0.4)):
            cell = Cell(subject, method, 0)
            learned = None if method == "Untouched" else LearnedConcept("x", "c", 12.5, 100)
            found += [Result(cell, learned, drawn(cell, tmp_path, n, value)) for n in range(2)]
    return found


def test_the_table_has_a_row_a_picture(tmp_path, results):
    with write_table(tmp_path, results).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert rows[0]["CLIP-T"] == "0.2" and rows[0]["train_seconds"] == ""
    assert rows[-1]["method"] == "CatVersion" and rows[-1]["train_seconds"] == "12.5"
    assert all((tmp_path / row["picture"]).is_file() for row in rows)


def test_the_page_opens_from_disk_and_loads_nothing(tmp_path, results, folder):
    text = write_page(tmp_path, results, read_subjects(folder), SETTINGS).read_text("utf-8")
    page = Page(text)
    assert not page.open
    for load in page.loads:
        assert load.startswith("data:image/jpeg;base64,") or (tmp_path / load).is_file(), load
    addresses = set(re.findall(r"https?://[^\"' ]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "a dog <here>" in page.text  # escaped in the source, the class word in its place
    assert "0.4000" in page.text and "100 steps, 12.5 s" in page.text
    assert text.count("<svg") == 4  # the cloud, two scores, the seconds
    assert "wolf_plushie" not in page.text


def test_the_next_page_reads_the_pictures_that_are_new(tmp_path, results, folder, monkeypatch):
    """It is written after every cell of thousands."""
    read, as_image = [], page.as_image
    monkeypatch.setattr(page, "as_image", lambda path: read.append(path) or as_image(path))
    first = write_page(tmp_path, results, read_subjects(folder), SETTINGS).read_bytes()
    known = len(read)
    assert write_page(tmp_path, results, read_subjects(folder), SETTINGS).read_bytes() == first
    assert len(read) == known > 0
    changed = tmp_path / results[0].cell.path / results[0].drawn.pictures[0]
    Image.new("RGB", (24, 24), "green").save(changed)
    assert write_page(tmp_path, results, read_subjects(folder), SETTINGS).read_bytes() != first
    assert read[known:] == [changed]


def test_scores_that_only_some_have(tmp_path, results, folder):
    some = results[0].drawn
    row = {"CLIP-T": 0.1, "CLIP-I(FG)": 0.6}
    extra = Drawn(some.made_by, 0, "a {}", "a dog", 0, some.pictures, (row, row), row)
    mixed = [Result(results[0].cell, None, extra), *results[1:]]
    page = Page(write_page(tmp_path, mixed, read_subjects(folder), SETTINGS).read_text("utf-8"))
    assert "CLIP-I(FG)" in page.text and not page.open


def test_the_overall_score_is_that_of_the_means(tmp_path, folder):
    """As CatVersion's tables have it, and Evaluate Concept; of each CLIP its own."""
    cell = Cell("dog6", "Untouched", 0)
    some = drawn(cell, tmp_path)
    rows = tuple(
        {"CLIP-T": text, "CLIP-I(masked)": image, "overall": (text * image) ** 0.5,
         "CLIP-T (b)": 2 * text, "CLIP-I(masked) (b)": image, "overall (b)": 0.0}
        for text, image in ((0.1, 0.9), (0.3, 0.1))
    )  # fmt: skip
    one = Drawn(some.made_by, 0, "a {}", "a dog", 0, some.pictures, rows, rows[0])
    results = [Result(cell, None, one)]
    text = write_page(tmp_path, results, read_subjects(folder), SETTINGS).read_text("utf-8")
    head, row = re.search("<table>(<tr>.*?</tr>)(<tr>.*?</tr>)", text, re.DOTALL).groups()
    names = re.findall("<th[^>]*>([^<]*)</th>", head)
    values = re.findall("<td[^>]*>(.*?)</td>", row)
    found = dict(zip(names, values, strict=True))
    assert found["overall"] == f"{(0.2 * 0.5) ** 0.5:.4f}"
    assert found["overall (b)"] == f"{(0.4 * 0.5) ** 0.5:.4f}"


def test_a_page_of_nothing(tmp_path):
    assert "0 pictures" in write_page(tmp_path, [], [], SETTINGS).read_text("utf-8")
