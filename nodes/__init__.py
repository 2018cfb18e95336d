"""The pack's nodes, by the ids that saved workflows know."""

from .concept import ApplyConcept, LoadConcept, SaveConcept
from .train import TrainCatVersion, TrainCrossInit, TrainTextualInversion

NODE_CLASS_MAPPINGS = {
    "PersonalizeTrainTextualInversion": TrainTextualInversion,
    "PersonalizeTrainCrossInit": TrainCrossInit,
    "PersonalizeTrainCatVersion": TrainCatVersion,
    "PersonalizeLoadConcept": LoadConcept,
    "PersonalizeSaveConcept": SaveConcept,
    "PersonalizeApplyConcept": ApplyConcept,
}
