"""Folders of the host that the pack reads and writes, and safe names within them."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import folder_paths

from ..concepts.errors import ConceptFileError, EvaluationError, NameTakenError, shown
from ..concepts.files import SUFFIXES as READABLE

CONCEPTS = "concepts"
ENCODERS = "elite"
TRASH = ".trash"  # in each concepts folder, for what was deleted; its files are not listed
SAMS = "sams"  # the key that other packs have for Segment Anything
SCORES = "clip_metrics"
EMBEDDING_PREFIX = "embedding:"
_SUFFIXES = {
    CONCEPTS: set(READABLE),
    ENCODERS: {".safetensors", ".pt", ".bin"},
    SAMS: {".safetensors", ".pt", ".bin", ".pth"},
}
_FORBIDDEN = re.compile(r'[<>:"|?*]')
# By Windows, whatever follows the first dot, with or without spaces before it
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *([.].*)?", re.IGNORECASE
)
_MOST_NUMBERS = 100_000
_LONGEST = 200  # bytes of a name: file systems take 255, a number and a suffix may follow


def register_folders() -> None:
    """Make `concepts`, `elite`, `sams` and `clip_metrics` folder keys of the host: models, output
    for what the pack writes, and what the user's yaml adds."""
    models, output = folder_paths.models_dir, folder_paths.get_output_directory()
    for key, parents in {
        CONCEPTS: (models, output),
        ENCODERS: (models, output),
        SAMS: (models,),
    }.items():
        for parent in parents:
            folder_paths.add_model_folder_path(key, str(Path(parent) / key))
        paths, suffixes = folder_paths.folder_names_and_paths[key]
        folder_paths.folder_names_and_paths[key] = (paths, set(suffixes) | _SUFFIXES[key])
    folder_paths.add_model_folder_path(SCORES, str(Path(models) / SCORES))


def concept_names() -> list[str]:
    """Names of all concept files, then of all stock embeddings as `embedding:name.pt`."""
    readable = [name for name in _listed("embeddings") if Path(name).suffix.lower() in READABLE]
    return saved_concepts() + [EMBEDDING_PREFIX + name for name in readable]


def saved_concepts() -> list[str]:
    """Names of the files in the concepts folders, without what was deleted."""
    names = _listed(CONCEPTS)
    return [name for name in names if TRASH not in Path(name).parts]


def folder_of(path: Path) -> Path:
    """The concepts folder that a file lies in once links are followed; raise when in none.

    A file that is a link itself counts as lying where the link lies.
    """
    place = path.parent.resolve()
    for folder in map(Path, folder_paths.get_folder_paths(CONCEPTS)):
        if place.is_relative_to(folder.resolve()):
            return folder
    raise ConceptFileError(
        f"'{path.name}' lies in {place}, outside of the concepts folders: a link leads there. "
        "Change it in its own place."
    )


def concept_path(name: str) -> Path:
    """The file that a name of `concept_names` means; raise when it is gone."""
    if name.startswith(EMBEDDING_PREFIX):
        return _found("embeddings", name.removeprefix(EMBEDDING_PREFIX), "concept", name)
    return _found(CONCEPTS, name, "concept")


def hidden_by(name: str) -> list[Path]:
    """The files of a listed concept's name in later concepts folders: the host finds the first."""
    first, *others = [
        path
        for folder in folder_paths.get_folder_paths(CONCEPTS)
        if (path := Path(folder) / name).is_file()
    ] or [Path(name)]
    return [path for path in others if path.resolve() != first.resolve()]


def elite_names() -> list[str]:
    """Names of all files of ELITE encoders, ours and the official mappers."""
    return _listed(ENCODERS)


def elite_path(name: str) -> Path:
    """The file that a name of `elite_names` means; raise when it is gone."""
    return _found(ENCODERS, name, "ELITE encoder")


def elite_folders() -> str:
    """The folders that are searched for ELITE encoders, for a message."""
    return _searched(ENCODERS)


def sam_names() -> list[str]:
    """Names of all files in the folders for Segment Anything."""
    return _listed(SAMS)


def sam_path(name: str) -> Path:
    """The file that a name of `sam_names` means; raise when it is gone."""
    return _found(SAMS, name, "SAM")


def score_models() -> list[str]:
    """Folders in `clip_metrics` that hold a model, and those that should but do not."""
    found: set[str] = set()
    for root in map(Path, folder_paths.get_folder_paths(SCORES)):
        models = {config.parent for config in root.rglob("config.json")} - {root}
        tops = {path for path in root.glob("*") if path.is_dir()}
        empty = {top for top in tops if not any(m.is_relative_to(top) for m in models)}
        found |= {path.relative_to(root).as_posix() for path in models | empty}
    return sorted(name for name in found if not name.startswith("."))


def score_model_path(name: str) -> Path:
    """The folder that a name of `score_models` means; raise when it is gone."""
    for root in map(Path, folder_paths.get_folder_paths(SCORES)):
        if name in score_models() and (root / name).is_dir():
            return root / name
    raise EvaluationError(
        f"There is no folder '{name}' with a model to score with. Looked in {score_folders()}. "
        "Copy the files of a model there, such as those of openai/clip-vit-large-patch14 into "
        "clip_metrics/clip-vit-large-patch14, and press R."
    )


def score_folders() -> str:
    """The folders that are searched for models to score with, for a message."""
    return _searched(SCORES)


def scores_output() -> Path:
    return Path(folder_paths.get_output_directory()) / "scores"


def elite_output() -> Path:
    return Path(folder_paths.get_output_directory()) / ENCODERS


def concepts_output() -> Path:
    return Path(folder_paths.get_output_directory()) / CONCEPTS


def embeddings_folder() -> Path:
    return Path(folder_paths.get_folder_paths("embeddings")[0])


def loras_folder() -> Path:
    return Path(folder_paths.get_folder_paths("loras")[0])


def states_folder() -> Path:
    """Where training states live: the host empties its temp folder at every start."""
    return Path(folder_paths.get_output_directory()) / "personalize" / "training"


def prior_folder() -> Path:
    """Where pictures of a class, made by a model for prior preservation, are kept."""
    return Path(folder_paths.get_output_directory()) / "personalize" / "prior"


def save_new(
    folder: Path,
    filename: str,
    save: Callable[[Path], None],
    suffix: str = ".safetensors",
    is_taken: Callable[[Path], bool] = Path.exists,
) -> Path:
    """Save under a user's name for a file, and return its path; a taken name gets a number.

    save: writes a new file, or raises NameTakenError when another program was faster
    is_taken: spares `save` the work for a name that is known to be taken
    Sub-folders are allowed, leaving the folder is not. Raises ConceptFileError with a sentence.
    """
    for path in numbered(file_in(folder, filename, suffix)):
        if not is_taken(path):
            with suppress(NameTakenError):
                save(path)
                return path
    raise ConceptFileError(f"There are too many files named '{filename}'. Choose another name.")


def file_in(folder: Path, filename: str, suffix: str) -> Path:
    """The path that a user's name for a file means in a folder; the suffix may be written or not.

    Sub-folders are allowed, leaving the folder is not. Raises ConceptFileError with a sentence.
    """
    name = filename.strip().replace("\\", "/").removesuffix(suffix)
    parts = PurePosixPath(name).parts
    no_file = name.startswith("/") or name.endswith("/")
    if not parts or no_file or not all(_is_name(part) for part in parts):
        raise ConceptFileError(
            f"'{shown(filename)}' is no file name. Write a name such as my-dog or pets/my-dog: "
            "plain words of letters and digits, inside the folder."
        )
    path = folder.joinpath(*parts[:-1], f"{parts[-1]}{suffix}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConceptFileError(f"'{filename}' leads out of {folder}. Write a plain name.")
    return path


def name_in_prompts(filename: str) -> str:
    """A user's name for an embedding as a prompt can say it.

    The host reads what follows ``embedding:`` up to a space, and round brackets as weights.
    """
    return re.sub(r"[\s()]+", "-", filename.strip()).strip("-")


def numbered(path: Path) -> Iterator[Path]:
    """A path and others like it: dog, dog-2, dog-3."""
    yield path
    for number in range(2, _MOST_NUMBERS):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _found(key: str, file: str, what: str, name: str = "") -> Path:
    """A file in the host's folders of a kind. what, name: how a message calls it"""
    found = folder_paths.get_full_path(key, file)
    if found is None:
        raise ConceptFileError(
            f"There is no {what} '{shown(name or file)}'. Looked in {_searched(key)}. Put the file "
            "there and press R."
        )
    return Path(found)


def _searched(key: str) -> str:
    return ", ".join(folder_paths.get_folder_paths(key))


def _listed(key: str) -> list[str]:
    """Names of the host's files of a kind, even when a folder of theirs was deleted meanwhile."""
    try:
        return folder_paths.get_filename_list(key)
    except FileNotFoundError:
        # The host asks for the time of each folder in its cache and stumbles over one that is gone.
        folder_paths.filename_list_cache.pop(key, None)
        return folder_paths.get_filename_list(key)


def _is_name(part: str) -> bool:
    """A name that every system takes and that stays in its folder; no hidden file."""
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in part):  # control, half a character
        return False
    odd = part.startswith(".") or part.endswith((".", " ")) or len(part.encode()) > _LONGEST
    return not (odd or _FORBIDDEN.search(part) or _RESERVED.fullmatch(part))
