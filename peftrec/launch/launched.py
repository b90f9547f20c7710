"""The processes that were launched together with this one."""

from __future__ import annotations

import datetime

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
    return Ranks.of(Accelerator(mixed_precision="no", kwargs_handlers=[waits]))
