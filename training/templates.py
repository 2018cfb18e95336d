"""Prompt templates to train with; ``{}`` is where the subject stands."""

from collections.abc import Sequence

from ..concepts.errors import TrainingError

# The subset of the CLIP ImageNet templates that Textual Inversion trains with (Gal et al. 2022).
OBJECT_TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)


# Those of Cross Initialization's program (Pang et al. 2024): the same for a photo, an illustration
# and a depiction. Where a template does not begin with "a photo of", it comes three times.
PEOPLE_TEMPLATES = tuple(
    template.replace("a photo of", f"{medium} of")
    for medium in ("a photo", "an illustration", "a depiction")
    for template in OBJECT_TEMPLATES
)


def parse_templates(text: str, own: Sequence[str] = OBJECT_TEMPLATES) -> tuple[str, ...]:
    """One template a line, each with one ``{}``; an empty text gives the method's own."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    for line in lines:
        if line.count("{}") != 1:
            raise TrainingError(
                f"The template '{line}' has {line.count('{}')} places for the subject. Write one "
                "{} where the subject stands, such as: a photo of a {}"
            )
    return lines or tuple(own)
