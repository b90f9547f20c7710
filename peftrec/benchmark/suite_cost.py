"""The costs of a suite: measured once a row, with the machine to itself, and added to the row's first result."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from typing import Final

from peftrec.benchmark.child import run_child
from peftrec.benchmark.code_version import CodeState, measuring_code
from peftrec.benchmark.code_watch import CodeWatch
from peftrec.benchmark.plan import Plan, PlannedRun
from peftrec.benchmark.result_folder import Result, ResultFolder, reached
from peftrec.benchmark.runner import Say, SuiteRunner
from peftrec.benchmark.settings import Settings

# Long enough for the load average to forget a training that has just ended.
_WAIT_SECONDS: Final = 300


def measure_suite(plan: Plan, settings: Settings, say: Say) -> tuple[int, dict[str, str]]:
    """Measure the costs of every row that has a result and no costs; what is measured is written at once.

    Runs have all cores, one after the other, and each is a process of its own that waits up to five minutes for the
    machine to fall idle.

    Args:
        plan: of the suite.
        settings: how it is run.
        say: is handed one line at a time.
    Returns:
        How many rows were measured; and why costs of a run were not, by its name.
    Raises:
        RecipeError: if no run of the suite is asked for.
    """
    folder, troubles = ResultFolder(settings.results), dict[str, str]()
    code = CodeWatch(settings.output / "logs", allow_mixed=settings.allow_mixed, files=plan.files)
    unmeasured = _unmeasured(plan, settings, say)
    for run in unmeasured:
        with folder.locked(run.name) as lock:
            if lock is None:
                troubles[run.name] = "another process works on it"
                continue
            trouble = code.cost_fault(folder.read()[run.name]["environment"])
            trouble = trouble or _measure(run, settings, folder, lock, code.now)
        if trouble is not None:
            troubles[run.name] = trouble
        say(f"{run.name}: {trouble or 'costs measured'}")
    measured = len(unmeasured) - len(troubles)
    folder.read()
    return measured, troubles | folder.faults


def _unmeasured(plan: Plan, settings: Settings, say: Say) -> list[PlannedRun]:
    """Return the run of the best values on the first seed, of each row of a model."""
    contents, found = SuiteRunner(plan, settings, say).contents(), []
    for row, values in plan.settled({name: reached(content) for name, content in contents.items()}):
        if row.is_baseline or values is None:
            continue
        runs = [run for run in (*row.trials(), *row.repeats(values)) if run.values == values]
        first = min(runs, key=lambda run: run.seed)
        content = contents.get(first.name)
        if content is not None and _wants(content) and settings.wants(first.name):
            found.append(first)
    return found


def _wants(content: Result) -> bool:
    """Tell whether a result has no costs, or some that other code measured, perhaps in another way."""
    if content["status"]["state"] != "ok":
        return False
    cost = content.get("cost")
    return cost is None or cost["environment"].get("measured_by") != measuring_code()


def _measure(run: PlannedRun, settings: Settings, folder: ResultFolder, lock: int, code: CodeState) -> str | None:
    """Measure in a process of its own and write what it found; return why not, if so."""
    logs = settings.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    found = logs / f"{run.name}.cost.json"
    found.unlink(missing_ok=True)
    data = [place for place in settings.places if place.startswith("data.")]  # its cache is one of its own
    words = run.words(output_dir=run.output_dir, places=data)
    options = ["--wait", str(_WAIT_SECONDS), "--output", str(found)]
    ended = run_child(
        [sys.executable, "-m", "peftrec.benchmark.cost", *words[1:], *options],
        log=logs / f"{run.name}.cost.log",
        threads=os.cpu_count() or 1,
        stop=threading.Event(),
        held=(lock,),
    )
    if ended.state != "ok":
        return ended.reason or ended.state
    cost = json.loads(found.read_text(encoding="utf-8"))
    cost["environment"] |= dataclasses.asdict(code)
    folder.write({**folder.read()[run.name], "cost": cost})
    return None
