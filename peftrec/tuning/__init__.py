"""Searching recipes: a space in YAML, trials in an Optuna study, the best recipe written out."""

from peftrec.tuning.sampling import PRUNERS, SAMPLERS, Pruner, Sampler
from peftrec.tuning.search import BEST, TRIALS, Tuned, tune
from peftrec.tuning.space import Choices, Space, Span, read_space
from peftrec.tuning.study import Study
from peftrec.tuning.trial import Trial

__all__ = [
    "BEST",
    "PRUNERS",
    "SAMPLERS",
    "TRIALS",
    "Choices",
    "Pruner",
    "Sampler",
    "Space",
    "Span",
    "Study",
    "Trial",
    "Tuned",
    "read_space",
    "tune",
]
