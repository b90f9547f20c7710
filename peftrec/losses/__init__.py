"""Losses: tensors in, scalar out; one file each, one registry line."""

from peftrec.config import Registry
from peftrec.losses.debias import Debias, ItemGroups, popularity_groups
from peftrec.losses.debias_config import DebiasConfig
from peftrec.losses.in_batch_softmax import log_inclusion_probability
from peftrec.losses.loss import LossConfig, LossInputs

LOSSES = Registry(
    "loss",
    {
        "full_softmax": "peftrec.losses.full_softmax:FullSoftmax",
        "in_batch_softmax": "peftrec.losses.in_batch_softmax:InBatchSoftmax",
    },
)

__all__ = [
    "LOSSES",
    "Debias",
    "DebiasConfig",
    "ItemGroups",
    "LossConfig",
    "LossInputs",
    "log_inclusion_probability",
    "popularity_groups",
]
