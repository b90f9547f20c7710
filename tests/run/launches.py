"""Launches of several processes, for tests that kill, stop and starve them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


class Launch:
    """`peftrec train` in two processes, as `accelerate launch` starts them by the file that is shipped.

    Args:
        recipe: a file.
        words: overrides and options.
        log: gets what all of them say.
    """

    def __init__(self, recipe: Path, *words: str, log: Path) -> None:
        self.log = log
        configuration = REPOSITORY / "recipes" / "accelerate" / "cpu_2.yaml"
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(configuration)]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *launcher, "-m", "peftrec", "train", str(recipe), *words],
                env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """What was said so far."""
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float = 300.0) -> int:
        """Wait for the end, and return the exit code."""
        try:
            return self.process.wait(seconds)
        finally:
            self.kill()

    def wait_for(self, done: Any, seconds: float = 120.0) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not done():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, f"{done} did not come: {self.said()}"
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """The processes that train, by rank."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                values = (folder / "environ").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            rank = next((value for value in values if value.startswith(b"RANK=")), None)
            if parent == self.process.pid and rank is not None:
                found[int(rank.partition(b"=")[2])] = int(folder.name)
        return [found[rank] for rank in sorted(found)]

    def kill(self) -> None:
        """Kill all at once."""
        for process in (*self.workers(), self.process.pid):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
