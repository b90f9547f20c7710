"""How a suite is run."""

from __future__ import annotations

import dataclasses
import fnmatch
from pathlib import Path
from typing import Literal

from peftrec.benchmark.plan import PLACES
from peftrec.benchmark.record import hidden_places
from peftrec.config import RecipeError

Keep = Literal["all", "best", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a suite is run.

    Args:
        results: folder of the JSON files.
        output: folder of the run folders, and of what runs said.
        jobs: runs at a time.
        threads: that each of them computes with.
        only: a pattern of names, such as `beauty.*.lora.*`; None runs all.
        keep: run folders that stay when their result is written: `best` keeps those of the best values.
        retry_failed: run again what did not end well.
        allow_mixed: whether results of other code may stand there, and code may differ from its commit.
        places: overrides that say where things lie on this machine, such as `data.root=../data`.
    """

    results: Path
    output: Path
    jobs: int = 1
    threads: int = 1
    only: str | None = None
    keep: Keep = "best"
    retry_failed: bool = False
    allow_mixed: bool = False
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for override in self.places:
            key = override.partition("=")[0].strip()
            if "=" not in override or key not in PLACES:
                raise RecipeError(
                    f"override {override!r}: of a suite only {' and '.join(PLACES)} can be overridden, which say where "
                    f"things lie; what decides results stands in its file"
                )

    def wants(self, name: str) -> bool:
        """Tell whether a run is asked for."""
        return self.only is None or fnmatch.fnmatchcase(name, self.only)

    def hidden(self) -> dict[str, str]:
        """Return the paths of this machine that no result may name."""
        pairs = [override.partition("=") for override in self.places]
        places = {key.strip(): value.strip() for key, _, value in pairs}
        return hidden_places(places | {"output": str(self.output), "results": str(self.results)})
