"""Losses: tensors in, scalar out; one file each, one registry line."""

from peftrec.config import Registry
from peftrec.losses.debias import Debias, ItemGroups, popularity_groups
from peftrec.losses.debias_config import DebiasConfig
from peftrec.losses.inclusion import log_complement, log_inclusion_probability, log_missed_probability
from peftrec.losses.loss import LossConfig, LossInputs, mean_over_positions
from peftrec.losses.negatives import NEGATIVES, DrawnNegatives, HardNegatives, NegativesConfig
from peftrec.losses.propensity import ItemPropensities, PropensityConfig, effective_number, item_propensities

LOSSES = Registry(
    "loss",
    {
        "full_softmax": "peftrec.losses.full_softmax:FullSoftmax",
        "in_batch_softmax": "peftrec.losses.in_batch_softmax:InBatchSoftmax",
        "sampled_softmax": "peftrec.losses.sampled_softmax:SampledSoftmax",
        "bpr": "peftrec.losses.bpr:Bpr",
        "bce": "peftrec.losses.bce:Bce",
        "gbce": "peftrec.losses.gbce:Gbce",
        "squared_error": "peftrec.losses.squared_error:SquaredError",
    },
)

__all__ = [
    "LOSSES",
    "NEGATIVES",
    "Debias",
    "DebiasConfig",
    "DrawnNegatives",
    "HardNegatives",
    "ItemGroups",
    "ItemPropensities",
    "LossConfig",
    "LossInputs",
    "NegativesConfig",
    "PropensityConfig",
    "effective_number",
    "item_propensities",
    "log_complement",
    "log_inclusion_probability",
    "log_missed_probability",
    "mean_over_positions",
    "popularity_groups",
]
