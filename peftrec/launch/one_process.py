"""How many processes were launched."""

from __future__ import annotations

from peftrec.config import InputError
from peftrec.launch.launched import launched


def require_one_process() -> None:
    """See that nothing was launched several times: each process would do the same work and write the same files.

    Raises:
        InputError: if several processes were launched.
    """
    count = launched().count
    if count > 1:
        raise InputError(
            f"{count} processes were launched, but runs are made in one process; launch with "
            f"--config_file recipes/accelerate/cpu.yaml (or one_gpu.yaml), or --num_processes 1"
        )
