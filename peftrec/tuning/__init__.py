"""Search over recipes by the validation metric, on Optuna, which is imported on first use."""

from peftrec.tuning.optimiser import PrunerName, SamplerName
from peftrec.tuning.search import tune
from peftrec.tuning.space import Space, read_space
from peftrec.tuning.study import Study
from peftrec.tuning.trial import Trial

__all__ = ["PrunerName", "SamplerName", "Space", "Study", "Trial", "read_space", "tune"]
