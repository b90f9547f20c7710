"""The one Accelerate loop: optimiser groups, checkpoints, trackers, memory meter."""

from peftrec.training.batch_plan import BatchPlan, plan_for_model
from peftrec.training.config import OptimizerConfig, TrainingConfig
from peftrec.training.folder import recover_folder, replace_folder
from peftrec.training.memory import peak_memory_mib
from peftrec.training.result import TrainingResult
from peftrec.training.run_lock import running
from peftrec.training.snapshot import CHECKPOINTS
from peftrec.training.stop_request import TrainingStopped
from peftrec.training.tracking import final_table
from peftrec.training.trainer import Trainer

__all__ = [
    "CHECKPOINTS",
    "BatchPlan",
    "OptimizerConfig",
    "Trainer",
    "TrainingConfig",
    "TrainingResult",
    "TrainingStopped",
    "final_table",
    "peak_memory_mib",
    "plan_for_model",
    "recover_folder",
    "replace_folder",
    "running",
]
