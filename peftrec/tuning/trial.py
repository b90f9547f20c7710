"""One setting of a search, and whether the process that tries it still lives."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from typing import Any

from peftrec.tuning.space import as_overrides


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting, and what came of it.

    Args:
        number: from 0, in the order of asking.
        values: of the keys that vary.
        state: `running`, `complete`, `pruned` or `failed`.
        value: of the validation metric; of a pruned trial the best epoch's; None without one.
        reason: why it failed.
        epochs: the metric at the start and after every epoch that was evaluated.
        seconds: by the clock; None while it runs.
    """

    number: int
    values: Mapping[str, Any]
    state: str = "running"
    value: float | None = None
    reason: str | None = None
    epochs: tuple[float, ...] = ()
    seconds: float | None = None

    @property
    def overrides(self) -> list[str]:
        """The values as overrides of the recipe, as `peftrec train` takes them."""
        return as_overrides(self.values)


def this_process() -> list[Any]:
    """Return what tells this process apart from others that share a study."""
    return [socket.gethostname(), os.getpid()]


def is_dead(process: Any) -> bool:
    """Whether a process of this machine has ended; of others nothing is known."""
    if not process or process[0] != socket.gethostname():
        return False
    if process[1] == os.getpid():
        return False
    try:
        os.kill(process[1], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
