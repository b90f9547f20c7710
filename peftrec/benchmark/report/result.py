"""Results of a suite, read and sorted into those that count, those that are refused, and runs that never ended."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peftrec.benchmark.report.schema import ResultSchema
from peftrec.config import InputError
from peftrec.evaluation import Evaluation
from peftrec.publishing import read_case_ranks

METRICS: Final = ("ndcg@10", "hr@10")
"""What is reported; the first one chooses and compares."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file that is not in the tables.

    Args:
        name: of the file.
        reason: why.
        refused: whether something is wrong with the file; otherwise it tells of a run that did not end well.
    """

    name: str
    reason: str
    refused: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A run that ended well.

    Args:
        name: of the run, and of its file without `.json`.
        content: of the JSON.
        cases: the ranks of its test cases.
    """

    name: str
    content: Mapping[str, Any]
    cases: Evaluation

    @property
    def run(self) -> Mapping[str, Any]:
        """Return what was run: method, backbone, data set, seed, stage, values."""
        found: Mapping[str, Any] = self.content["run"]
        return found

    @property
    def is_baseline(self) -> bool:
        """Tell a baseline from a trained model."""
        return bool(self.run.get("kind", "model" if "training" in self.content else "baseline") == "baseline")

    @property
    def valid(self) -> float:
        """Return the NDCG@10 that it reached in validation."""
        return float(self.content["valid"]["metrics"][METRICS[0]])

    @property
    def choice(self) -> float:
        """Return the validation metric that chooses among trials, which is that of the recipe."""
        return choice_of(self.content)

    @property
    def tested_on(self) -> str:
        """Return what must be equal for two results to be compared case by case: cases and rules."""
        return _plain([self.content["cases"]["sha256"], self.content["test"]["protocol"]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """All of a folder, in order of the files' names."""

    usable: tuple[Result, ...]
    left_out: tuple[LeftOut, ...]
    # Trials that were run for each row, and those of them that did not end well: see `row_key`.
    num_trials: Mapping[str, int]
    num_failed: Mapping[str, int]
    # What ended well and cannot be used, by row, and the names of files that cannot be read as results at all.
    lost: Mapping[str, Sequence[Mapping[str, Any]]]
    unread: tuple[str, ...]


def read_results(folder: Path) -> Results:
    """Read every `*.json` of a folder, and the ranks of cases beside it.

    Args:
        folder: of one suite.
    Returns:
        What can be used, and what cannot with reasons.
    Raises:
        InputError: if the folder is not there or holds no JSON, or jsonschema is not installed.
    """
    contents, faulty = _contents(folder)
    twice = _claimed_twice(contents)
    named_twice = {entry.name for entry in twice}
    known = {name: content for name, content in contents.items() if f"{name}.json" not in named_twice}
    ended = {name: content for name, content in known.items() if content["status"]["state"] == "ok"}
    unfinished = [_unfinished(name, content) for name, content in known.items() if name not in ended]
    results, spoiled = _with_cases(folder, ended)
    strangers = _other_users(results)
    strange = {entry.name for entry in strangers}
    left_out = [*faulty, *twice, *unfinished, *spoiled, *strangers]
    usable = tuple(result for result in results if f"{result.name}.json" not in strange)
    lost, used = defaultdict(list), {result.name for result in usable}
    for name, content in contents.items():
        if name not in used and content["status"]["state"] == "ok":
            lost[row_key(content["run"])].append(content)
    trials = {name: content for name, content in known.items() if content["run"]["stage"] == "trial"}
    return Results(
        usable=usable,
        left_out=tuple(sorted(left_out, key=lambda entry: entry.name)),
        num_trials=Counter(row_key(content["run"]) for content in trials.values()),
        num_failed=Counter(row_key(content["run"]) for name, content in trials.items() if name not in ended),
        lost=lost,
        unread=tuple(entry.name.removesuffix(".json") for entry in faulty),
    )


def _contents(folder: Path) -> tuple[dict[str, Mapping[str, Any]], list[LeftOut]]:
    """Read the JSON files of a folder, by name without ending, and say which of them are no results."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name that of one suite, such as benchmarks/results/smoke")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.json")))
        hint = f"; its folders {', '.join(inside)} do: name one of them" if inside else ""
        raise InputError(f"{folder}: holds no results (*.json){hint}")
    schema, contents, faulty = ResultSchema(), {}, []
    for path in paths:
        try:
            contents[path.stem] = _checked(schema.read(path), path)
        except InputError as error:
            faulty.append(_without_name(path, error))
    return contents, faulty


def _with_cases(folder: Path, contents: Mapping[str, Mapping[str, Any]]) -> tuple[list[Result], list[LeftOut]]:
    """Read the ranks beside results, and say of which they cannot be used."""
    results, spoiled = [], []
    for name, content in contents.items():
        try:
            results.append(Result(name=name, content=content, cases=_cases(folder, content)))
        except InputError as error:
            spoiled.append(_without_name(folder / f"{name}.json", error))
    return results, spoiled


def row_key(run: Mapping[str, Any]) -> str:
    """Return what is equal for runs of one row: data set, backbone, method."""
    return _plain([run["dataset"], run["backbone"], run["method"]])


def _checked(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Check what a schema cannot say."""
    if content["run"]["name"] != path.stem:
        raise InputError(f"{path.name}: calls itself '{content['run']['name']}'; a file has the name of its run")
    if content["status"]["state"] != "ok":
        return content
    if content["valid"]["metrics"].get(_choosing(content)) is None:
        raise InputError(f"{path.name}: valid.metrics has no {_choosing(content)}, which recipe.training.metric names")
    for split in ("valid", "test"):
        for metric in METRICS:
            if content[split]["metrics"].get(metric) is None:
                raise InputError(f"{path.name}: {split}.metrics has no {metric}; evaluation.ks must have 10 in it")
    return content


def choice_of(content: Mapping[str, Any]) -> float:
    """Return the validation metric that chooses among trials, of a result that ended well."""
    return float(content["valid"]["metrics"][_choosing(content)])


def _choosing(content: Mapping[str, Any]) -> str:
    training = content["recipe"].get("training")
    return str(training.get("metric", METRICS[0])) if isinstance(training, dict) else METRICS[0]


def _claimed_twice(contents: Mapping[str, Mapping[str, Any]]) -> list[LeftOut]:
    """Refuse all results that claim one run: which of them tells the truth cannot be known.

    The stage is not looked at: the same settings and the same seed are the same run in both.
    """
    claims = defaultdict(list)
    for name, content in contents.items():
        run = content["run"]
        claims[_plain([row_key(run), run["seed"], run["values"]])].append(name)
    return [
        LeftOut(
            name=f"{name}.json",
            reason=f"claims the same run as {', '.join(f'{other}.json' for other in names if other != name)}: the same "
            f"method, backbone, data set, seed and values; delete what is wrong",
        )
        for names in claims.values()
        for name in names
        if len(names) > 1
    ]


def _unfinished(name: str, content: Mapping[str, Any]) -> LeftOut:
    status = content["status"]
    reason = (status.get("reason") or "no reason was recorded").strip().splitlines()
    told = f"{status['state'].replace('_', ' ')} after {status['seconds']:.0f} s: {reason[-1] if reason else ''}"
    return LeftOut(name=f"{name}.json", reason=told, refused=False)


def _cases(folder: Path, content: Mapping[str, Any]) -> Evaluation:
    """Read the ranks of the cases, and check that they are those which the metrics were made of."""
    stored, test = content["cases"], content["test"]
    if Path(stored["file"]).name != stored["file"]:
        raise InputError(f"cases.file: '{stored['file']}' must be the name of a file beside the JSON")
    try:
        found = read_case_ranks(folder / stored["file"], stored, {"repeat_target_share": 0.0, **test})
    except KeyError as error:
        raise InputError(f"test.protocol: has no {error}") from None
    except (ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise InputError(str(error)) from None
    if found.num_cases != test["num_cases"] or found.num_users != test["num_users"]:
        raise InputError(
            f"{stored['file']}: holds {found.num_cases:,} cases of {found.num_users:,} users, the JSON says "
            f"{test['num_cases']:,} of {test['num_users']:,}"
        )
    means = found.summary()
    for metric in METRICS:
        if not math.isclose(means[metric], test["metrics"][metric], abs_tol=1e-6):
            raise InputError(
                f"{stored['file']}: its ranks give {metric} {means[metric]:.6f}, the JSON says "
                f"{test['metrics'][metric]:.6f}; it is of another run"
            )
    return found


def _other_users(results: Sequence[Result]) -> list[LeftOut]:
    """Refuse files that name the same cases as others, but hold other users than most of them."""
    by_digest = defaultdict(list)
    for result in results:
        by_digest[result.content["cases"]["sha256"]].append(result)
    found = []
    for alike in by_digest.values():
        counts = Counter(result.cases.users.tobytes() for result in alike)
        users, most = counts.most_common(1)[0]
        tied = sum(count == most for count in counts.values()) > 1
        for result in alike:
            if tied or result.cases.users.tobytes() != users:
                reason = "its users are not those of other files with the same cases.sha256, so it is of other cases"
                found.append(LeftOut(name=f"{result.name}.json", reason=f"{result.content['cases']['file']}: {reason}"))
    return found


def _without_name(path: Path, error: InputError) -> LeftOut:
    """Say what is wrong without the path, which is another on each machine."""
    told = str(error).replace(f"{path.parent}/", "").removeprefix(f"{path.name}: ")
    return LeftOut(name=path.name, reason=told)


def _plain(values: Iterable[Any]) -> str:
    """Return values as one text that is equal where they are; 1 and 1.0 are."""
    return json.dumps(_whole(list(values)), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    return value


def same_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two sets of tuned values are the same."""
    return _plain([one]) == _plain([other])


def mean(values: Iterable[float]) -> float:
    """Return the mean of some numbers."""
    return float(np.mean(list(values)))
