"""Whether a stored result is that of the run whose name it has: suites change, and folders of results are shared."""

from __future__ import annotations

from pathlib import Path

from peftrec.benchmark.plan import PlannedRun
from peftrec.benchmark.record import recipe_changes
from peftrec.benchmark.result_folder import Result
from peftrec.config import InputError, parse_section
from peftrec.recipe import Recipe


def claim_fault(run: PlannedRun, content: Result, folder: Path) -> str | None:
    """Return why a result that ended well cannot count as that of a run; None where it can.

    Args:
        run: of the suite.
        content: of the JSON that has its name.
        folder: of the results; ranks must lie there, since without them a report leaves the result out.
    """
    path, told, row = folder / f"{run.name}.json", content["run"], run.row
    for key, wanted in (("suite", row.suite), ("stage", run.stage), ("tuned_on", row.tuned_on)):
        if told.get(key) != wanted:
            return f"{path}: is another run's: its {key} is {told.get(key)!r}, the suite has {wanted!r}; move it away"
    try:
        stored = parse_section(Recipe, content["recipe"])
    except InputError as error:
        return f"{path}: its recipe cannot be read ({error}); move it away"
    changes = recipe_changes(run.recipe(), stored)
    if changes is not None:
        return f"{path}: is of another recipe: {changes}; move it away, and the run is made"
    if content["valid"]["metrics"].get(stored.training.metric) is None:
        return f"{path}: valid.metrics has no {stored.training.metric}, which chooses among runs; move it away"
    ranks = folder / content["cases"]["file"]
    if not ranks.is_file():
        return f"{ranks}: is missing, and without it the report leaves {path.name} out; put it back, or remove both"
    return None


def is_failure_of(run: PlannedRun, content: Result) -> bool:
    """Tell whether a result that did not end well is of a run as it is planned now: what failed otherwise may not."""
    told = content["run"]
    return bool(told["recipe"] == run.row.recipe_path and told["overrides"] == run.overrides)
