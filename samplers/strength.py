"""What the strength of an applied concept means, for everything that a concept can change.

0 is the user's own: the class word stands in the placeholder's place, and neither MODEL nor
encoding has a patch. 1 is the concept as learned. In between and beyond each part moves smoothly:

- Learned words: a vector cannot be blended with a class word of another number of tokens, so the
  two *encodings* of the prompt are, c = c_class + strength (c_learned - c_class). Several concepts
  of fractional strength blend one after another (multilinear).
- Residual keys and values: strength multiplies the residual columns' weights before the softmax is
  normalised, softmax(log(strength) + b + Q dK, Q K). So beyond 1 the residuals take more of the
  attention but never more than all of it; scaling the values instead would take attention away
  from the prompt even at 0.
- Differences of weights, an encoder's projections and local attention: strength multiplies them.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from ..concepts.errors import PersonalizeError


@dataclass(frozen=True)
class Strength:
    """A strength of 0 or more. Raises PersonalizeError for any other number."""

    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise PersonalizeError(
                f"Expected a strength of 0 or more, such as 0.8, got {self.value}."
            )

    @property
    def is_zero(self) -> bool:
        """The user's own models and the class word, bit-equal: nothing may be patched."""
        return self.value == 0

    @property
    def is_one(self) -> bool:
        """As learned, bit-equal: nothing may be blended."""
        return self.value == 1

    def blended(self, plain: Tensor, learned: Tensor) -> Tensor:
        """Of encodings: with the class word, and with the learned words."""
        return plain + self.value * (learned - plain)

    def logit_bias(self, learned: float) -> float:
        """Of residual columns, from the bias they were learned with. Not defined at 0."""
        return learned + math.log(self.value)

    def scaled(self, factor: float = 1.0) -> float:
        """What multiplies differences of weights, or a local attention of that own factor."""
        return self.value * factor
