"""The scores of the papers, as pure functions on features.

Every score is a cosine of two embeddings, -1 to 1, or made from such. Which embeddings of which
pictures: `evaluate.py`.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def text_alignment(pictures: Tensor, texts: Tensor) -> Tensor:
    """CLIP-T: cosine of each picture with its own prompt, (N, d) and (N, d) or (1, d) -> (N,).

    Radford et al. 2021; as in DreamBooth (Ruiz et al. 2023), DETEX, ELITE and CatVersion.
    """
    return (normalize(pictures, dim=-1) * normalize(texts, dim=-1)).sum(dim=-1)


def picture_alignment(generated: Tensor, references: Tensor) -> Tensor:
    """CLIP-I, DINO-I, identity: of each generated picture, the mean over all references of the
    cosine, (N, d) and (M, d) -> (N,).

    The mean over N is the average pairwise similarity of DreamBooth (Ruiz et al. 2023).
    """
    return (normalize(generated, dim=-1) @ normalize(references, dim=-1).T).mean(dim=1)


def overall(text: Tensor, image: Tensor) -> Tensor:
    """Geometric mean of text and image alignment (CatVersion, Zhao et al. 2023), 0 if either is
    negative.

    The paper's tables are that of the *means* over all pictures: sqrt(.2514 * .8048) = .4498.
    """
    return torch.sqrt(text.clamp(min=0) * image.clamp(min=0))
