"""The pack's nodes, by the ids that saved workflows know."""

from .attention_maps import ShowAttentionMaps
from .compare import CompareConcepts
from .concept import ApplyConcept, LoadConcept, SaveConcept
from .elite import EncodeELITE, LoadELITE, SaveELITE
from .evaluate import EvaluateConcept
from .lora import SaveLoRA
from .segment import LoadSAM, SegmentSubject
from .train import (
    TrainCatVersion,
    TrainCrossInit,
    TrainCustomDiffusion,
    TrainDETEX,
    TrainTextualInversion,
)
from .train_elite import TrainELITE

NODE_CLASS_MAPPINGS = {
    "PersonalizeTrainTextualInversion": TrainTextualInversion,
    "PersonalizeTrainCrossInit": TrainCrossInit,
    "PersonalizeTrainCatVersion": TrainCatVersion,
    "PersonalizeTrainCustomDiffusion": TrainCustomDiffusion,
    "PersonalizeTrainDETEX": TrainDETEX,
    "PersonalizeTrainELITE": TrainELITE,
    "PersonalizeLoadELITE": LoadELITE,
    "PersonalizeSaveELITE": SaveELITE,
    "PersonalizeEncodeELITE": EncodeELITE,
    "PersonalizeLoadConcept": LoadConcept,
    "PersonalizeSaveConcept": SaveConcept,
    "PersonalizeSaveLoRA": SaveLoRA,
    "PersonalizeApplyConcept": ApplyConcept,
    "PersonalizeEvaluate": EvaluateConcept,
    "PersonalizeCompare": CompareConcepts,
    "PersonalizeAttentionMaps": ShowAttentionMaps,
    "PersonalizeLoadSAM": LoadSAM,
    "PersonalizeSegmentSubject": SegmentSubject,
}
