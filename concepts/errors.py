"""Named exceptions. Every message says what was expected, what came and what to do."""


class PersonalizeError(ValueError):
    """Base of all errors that a user can cause."""


class ConceptFileError(PersonalizeError):
    """A file that is damaged, foreign, unsafe or no concept at all."""


class PlaceholderError(PersonalizeError):
    """A placeholder that no prompt could hold."""


class BaseModelError(PersonalizeError):
    """A concept, a MODEL, a CLIP or a VAE that do not belong together."""


class TrainingError(PersonalizeError):
    """Training data or settings that cannot work, or a training that went wrong."""
