"""Which runs a row of a table stands on: those of the values that validation chose, all of one recipe."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from peftrec.benchmark.report.result import LeftOut, Result, Results, choice_of, row_key, same_values
from peftrec.benchmark.report.settings import changed_settings, settings_of

_SHOWN_KEYS: Final = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowRuns:
    """The runs of a row.

    Args:
        runs: of one set of values, by seed; none where the best trial cannot be used and nothing else has its values.
        left_out: runs that belong to no row.
        warning: what is odd about the row, or nothing.
        sure: whether it is known that validation chose these values.
    """

    runs: tuple[Result, ...]
    left_out: tuple[LeftOut, ...]
    warning: str
    sure: bool


def choose_runs(alike: Sequence[Result], results: Results) -> RowRuns:
    """Choose the runs of a row; a trial that was better in validation and cannot be used is not passed over.

    Args:
        alike: usable runs of one method on one data set with one backbone.
        results: all of the folder, with what is known of those that cannot be used.
    """
    alike, strangers = _of_one_recipe(alike)
    trials = [result for result in alike if result.run["stage"] == "trial"]
    seeds = [result for result in alike if result.run["stage"] == "seed"]
    repeated = {_json(result.run["values"]) for result in seeds}
    best = max(trials, key=lambda result: _preference(result, repeated), default=None)
    lost = _better_lost(best, results.lost.get(row_key(alike[0].run), ()))
    if lost is not None:
        return _without_best(lost, alike, strangers)
    unread = _unread_trials(trials, results)
    values, warning = _chosen(best, seeds)
    if unread:
        warning = f"{unread[0]}.json, a trial of it that may be the best, cannot be read"
    runs = [result for result in seeds if same_values(result.run["values"], values)]
    runs += [result for result in trials if same_values(result.run["values"], values)]
    others = [
        LeftOut(name=f"{result.name}.json", reason=f"ran with {_told(result)}, other seeds of it with {_json(values)}")
        for result in seeds
        if result not in runs
    ]
    kept, foreign = _of_same_cases(runs)
    return RowRuns(runs=kept, left_out=(*strangers, *others, *foreign), warning=warning, sure=not unread)


def _of_one_recipe(alike: Sequence[Result]) -> tuple[list[Result], list[LeftOut]]:
    """Keep the runs of the recipe that most have; only seeds, places and tuned values may differ."""
    groups: list[list[Result]] = []
    for result in alike:
        group = next((group for group in groups if not _changes(result, group[0])), None)
        if group is None:
            groups.append(group := [])
        group.append(result)
    kept = max(groups, key=len)
    left_out = []
    for result in (result for group in groups if group is not kept for result in group):
        told = "; ".join(_changes(result, kept[0])[:_SHOWN_KEYS])
        reason = f"is of another recipe than {kept[0].name}, another run of its row: {told}"
        left_out.append(LeftOut(name=f"{result.name}.json", reason=reason))
    return kept, left_out


def _changes(one: Result, other: Result) -> list[str]:
    tuned = one.run["values"].keys() | other.run["values"].keys()
    return changed_settings(*(settings_of(result.content["recipe"], tuned) for result in (one, other)))


def _of_same_cases(runs: Sequence[Result]) -> tuple[tuple[Result, ...], list[LeftOut]]:
    runs = sorted(runs, key=lambda result: result.run["seed"])
    foreign = [result for result in runs if result.tested_on != runs[0].tested_on]
    reason = f"was tested on other cases, or under other rules, than {runs[0].name}, another seed of it"
    left_out = [LeftOut(name=f"{result.name}.json", reason=reason) for result in foreign]
    return tuple(result for result in runs if result not in foreign), left_out


def _better_lost(best: Result | None, lost: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the best trial in validation, where it is one that cannot be used."""
    trials = [content for content in lost if content["run"]["stage"] == "trial"]
    found = max(trials, key=choice_of, default=None)
    return found if found is not None and (best is None or choice_of(found) > best.choice) else None


def _without_best(lost: Mapping[str, Any], alike: Sequence[Result], strangers: Sequence[LeftOut]) -> RowRuns:
    """Return the other runs of the values of a trial that cannot be used, if there are some."""
    name, values = lost["run"]["name"], lost["run"]["values"]
    kept, foreign = _of_same_cases([result for result in alike if same_values(result.run["values"], values)] or alike)
    if not same_values(kept[0].run["values"], values):
        reason = f"{name}.json, which was the best trial in validation, cannot be used; nothing stands for its row"
        gone = [LeftOut(name=f"{result.name}.json", reason=reason, refused=False) for result in alike]
        return RowRuns(runs=(), left_out=(*strangers, *gone), warning="", sure=False)
    warning = f"{name}.json, its trial that was the best in validation, cannot be used, so that a seed is missing"
    return RowRuns(runs=kept, left_out=(*strangers, *foreign), warning=warning, sure=True)


def _unread_trials(trials: Sequence[Result], results: Results) -> list[str]:
    """Return files that cannot be read, and whose names are those of other trials of the row."""
    ends = {(_begin(result), f".seed-{result.run['seed']}") for result in trials if result.run["values"]}
    return [
        name for name in results.unread if any(name.startswith(begin) and name.endswith(end) for begin, end in ends)
    ]


def _begin(trial: Result) -> str:
    """Return what the names of all trials of a row begin with: the row, and the first key that was tuned."""
    key = f".{next(iter(trial.run['values'])).rpartition('.')[2]}-"
    row, found, _ = trial.name.partition(key)
    return f"{row}{key}" if found else f"{trial.name}."


def _preference(trial: Result, repeated: set[str]) -> tuple[float, bool, bool]:
    """Return what a trial is chosen by; of equal ones, that which the suite went on with, as repeats and costs tell."""
    return trial.choice, _told(trial) in repeated, bool(trial.content.get("cost"))


def _chosen(best: Result | None, seeds: Sequence[Result]) -> tuple[Mapping[str, Any], str]:
    """Return the values that a row stands for, and what is odd about them."""
    counts = Counter(_json(result.run["values"]) for result in seeds)
    if best is not None and (not seeds or _json(best.run["values"]) in counts):
        chosen: Mapping[str, Any] = best.run["values"]
        return chosen, ""
    most = counts.most_common(1)[0][0]
    chosen = next(result.run["values"] for result in seeds if _json(result.run["values"]) == most)
    if best is None:
        return chosen, ""
    return chosen, f"its seeds ran with {most}, but {best.name} with {_told(best)} was the best trial in validation"


def _told(result: Result) -> str:
    return _json(result.run["values"])


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
