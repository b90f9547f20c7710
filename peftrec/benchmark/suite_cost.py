"""The costs of a suite: measured once a row, with the machine to itself, and added to the row's first result."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Final

from peftrec.benchmark.child import run_child
from peftrec.benchmark.plan import Plan, PlannedRun
from peftrec.benchmark.result_folder import Result, ResultFolder, reached
from peftrec.benchmark.runner import Say, Settings

# Long enough for the load average to forget a training that has just ended.
_WAIT_SECONDS: Final = 300


def measure_suite(plan: Plan, settings: Settings, say: Say) -> dict[str, str]:
    """Measure the costs of every row that has a result and no costs; what is measured is written at once.

    Runs have all cores, one after the other, and each is a process of its own that waits up to five minutes for the
    machine to fall idle.

    Args:
        plan: of the suite.
        settings: how it is run.
        say: is handed one line at a time.
    Returns:
        Why costs of a run were not measured, by its name.
    """
    folder, troubles = ResultFolder(settings.results), dict[str, str]()
    for run in list(_unmeasured(plan, settings, folder)):
        with folder.locked(run.name) as lock:
            if lock is None:
                troubles[run.name] = "another process works on it"
                continue
            trouble = _measure(run, settings, folder, lock)
        if trouble is not None:
            troubles[run.name] = trouble
        say(f"{run.name}: {trouble or 'costs measured'}")
    return troubles


def _unmeasured(plan: Plan, settings: Settings, folder: ResultFolder) -> Iterator[PlannedRun]:
    """Yield the run of the best values on the first seed, of each row of a model."""
    contents = folder.read()
    for row, values in plan.settled({name: reached(content) for name, content in contents.items()}):
        if row.is_baseline or values is None:
            continue
        runs = [run for run in (*row.trials(), *row.repeats(values)) if run.values == values]
        first = min(runs, key=lambda run: run.seed)
        content = contents.get(first.name)
        if content is not None and _wants(content) and settings.wants(first.name):
            yield first


def _wants(content: Result) -> bool:
    return content["status"]["state"] == "ok" and content.get("cost") is None


def _measure(run: PlannedRun, settings: Settings, folder: ResultFolder, lock: int) -> str | None:
    """Measure in a process of its own and write what it found; return why not, if so."""
    logs = settings.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    found = logs / f"{run.name}.cost.json"
    found.unlink(missing_ok=True)
    words = run.words(output_dir=run.output_dir, places=[place for place in settings.places if "cache" not in place])
    ended = run_child(
        [
            sys.executable,
            "-m",
            "peftrec.benchmark.cost",
            *words[1:],
            "--wait",
            str(_WAIT_SECONDS),
            "--output",
            str(found),
        ],
        log=logs / f"{run.name}.cost.log",
        threads=os.cpu_count() or 1,
        stop=threading.Event(),
        held=(lock,),
    )
    if ended.state != "ok":
        return ended.reason or ended.state
    content = folder.read()[run.name]
    folder.write({**content, "cost": json.loads(found.read_text(encoding="utf-8"))})
    return None
