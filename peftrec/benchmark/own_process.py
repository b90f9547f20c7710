"""A command of the library in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence


def run_apart(words: Sequence[str]) -> str | None:
    """Run a command of the library in a process with one thread, and return what it said if it failed.

    Args:
        words: as behind `peftrec` on the command line.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "peftrec", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stderr.strip() if ran.returncode else None
