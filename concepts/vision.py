"""What tells CLIP vision encoders from each other."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VisionShape:
    """Width, number of layers and of patches of a CLIP vision encoder."""

    width: int
    layers: int
    patches: int

    def __str__(self) -> str:
        return f"width {self.width}, {self.layers} layers and {self.patches} patches"
