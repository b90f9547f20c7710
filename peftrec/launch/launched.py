"""The processes that were launched together with this one."""

from __future__ import annotations

import datetime

import torch

from peftrec.launch.engine import require_torch_engine
from peftrec.launch.ranks import Ranks


def launched(timeout_seconds: float = 1800.0) -> Ranks:
    """Return this process among those of its launch (`accelerate launch`, `torchrun`); alone where there was none.

    Args:
        timeout_seconds: how long processes wait for each other; counts where this is the first call of the process.
    Raises:
        InputError: if the launch asks for an engine other than torch.distributed; see `require_torch_engine`.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    require_torch_engine()
    waits = InitProcessGroupKwargs(timeout=datetime.timedelta(seconds=timeout_seconds))
    accelerator = Accelerator(cpu=must_be_cpu(), mixed_precision="no", kwargs_handlers=[waits])
    return Ranks.of(accelerator, timeout_seconds)


def must_be_cpu() -> bool:
    """Whether there is nothing but a CPU, as Accelerate has to be told.

    Several processes that `accelerate launch` starts by a file would otherwise each take itself for the only one.
    """
    return not torch.accelerator.is_available()
