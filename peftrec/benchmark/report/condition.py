"""Under which conditions results were made: what was not measured, and what was mixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from peftrec.benchmark.report.expense import TPME_WEIGHTS, cost_machines
from peftrec.benchmark.report.measured import MeasuredTable
from peftrec.benchmark.report.result import Result

# Above this share of the machine other work is worth a word.
_DISTURBED: Final = 0.05
_MEMORY: Final = {"rss": "the process holds (RSS)", "cuda_allocated": "is allocated on the GPU"}
_TREE: Final = {True: " with changes that are not committed", False: "", None: ", clean or not is unknown"}


def cost_notes(measured: MeasuredTable) -> list[str]:
    """Say what the costs of a table are, and which are missing."""
    costs = {line.row.label: line.row.cost for line in measured.models}
    missing = [label for label, cost in costs.items() if cost is None]
    known = {label: cost for label, cost in costs.items() if cost is not None}
    notes = []
    if not known:
        return [
            "Times and memory were not measured, so their columns are empty: the seconds of the runs themselves are no "
            "measure, since runs share their machine."
        ]
    if missing:
        notes.append(f"Times and memory were not measured for {_list(missing)}, so their columns are empty there.")
    disturbed = [
        f"{label} ({cost['other_work']:.0%} of the machine)"
        for label, cost in known.items()
        if (cost["other_work"] or 0) > _DISTURBED
    ]
    unknown = [label for label, cost in known.items() if cost["other_work"] is None]
    if disturbed:
        notes.append(f"Measured beside other work, so slower than they are: {_list(disturbed)}.")
    if unknown:
        notes.append(f"Whether other work ran meanwhile is not known for {_list(unknown)}.")
    kinds = sorted({_MEMORY[cost["memory_mib"].get("kind", "rss")] for cost in known.values()})
    notes.append(f"Memory is what {' and '.join(kinds)}, at the peak of training, above imports, data and weights.")
    mixed = [line.row.label for line in measured.models if line.row.costs_of_other_code]
    if mixed:
        notes.append(f"MIXED: costs were measured with other code than the results for {_list(mixed)}.")
    machines = cost_machines(measured.table.rows)
    if len(machines) > 1:
        notes.append(
            f"Costs come from {len(machines)} kinds of machines, so they are not comparable: no TPME, and no plots of "
            f"seconds and memory."
        )
    elif missing:
        notes.append("Without the costs of all models there is no TPME.")
    return [*notes, *_measured_by(list(known.values()))]


def _measured_by(costs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say which machine and code measured costs."""
    told: dict[str, int] = {}
    for environment in (cost["environment"] for cost in costs):
        commit = _commit({"dirty": None, "commit": None, **environment})
        by = environment.get("measured_by")
        means = f", measuring code {by[:12]}" if by else ""
        of = f"{_machine(environment['machine'])}; commit {commit}{means}" if "machine" in environment else "not told"
        told[of] = told.get(of, 0) + 1
    for of, count in sorted(told.items()):
        yield f"Costs of {count} row{'s' if count > 1 else ''} were measured on this: {of}."
    codes = {cost["environment"].get("measured_by") for cost in costs}
    if len(codes) > 1:
        yield "MIXED: costs were measured by different code, which may have measured differently."


def tpme_note(measured: MeasuredTable) -> list[str]:
    """Say what TPME is made of, where a table has it."""
    if all(line.tpme is None for line in measured.lines):
        return []
    time, parameters, memory = TPME_WEIGHTS
    return [
        f"TPME = {time:g} T + {parameters:g} P + {memory:g} M (weights of Fu et al. 2024, IISAN): seconds of an epoch, "
        f"all trained parameters, and memory, each from 0, the least of the table, to 1, the most. Less is better; it "
        f"compares the rows of this table alone."
    ]


def setting_notes(results: Sequence[Result]) -> list[str]:
    """Say which code, machines and versions made the results, and where they are mixed."""
    environments = [result.content["environment"] for result in results]
    codes = [environment.get("code") for environment in environments]
    notes = [
        _mixed("suite", "suites", (str(result.run["suite"]) for result in results)),
        _commits(environments)
        if len(set(codes)) == 1 and codes[0] is not None
        else _mixed("commit", "commits", map(_commit, environments)),
        _mixed("machine", "kinds of machines", (_machine(environment["machine"]) for environment in environments)),
        _mixed("set of versions", "sets of versions", (_versions(environment) for environment in environments)),
    ]
    return [*notes, *_data(results)]


def _mixed(one: str, several: str, values: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return f"One {one}: {distinct[0]}."
    return f"MIXED: {len(distinct)} {several}: {'; '.join(sorted(distinct))}."


def _commits(environments: Sequence[Mapping[str, Any]]) -> str:
    """Name the commits of results whose code has one digest: they differ in what decides nothing."""
    commits = dict.fromkeys(map(_commit, environments))
    code = environments[0]["code"][:12]
    return f"One code, digest {code}, at commit{'s' if len(commits) > 1 else ''} {'; '.join(sorted(commits))}."


def _commit(environment: Mapping[str, Any]) -> str:
    commit = environment["commit"]
    return ("unknown" if commit is None else commit[:12]) + _TREE[environment["dirty"]]


def _machine(machine: Mapping[str, Any]) -> str:
    told = (f"{key} {_plain(value)}" for key, value in sorted(machine.items()) if value not in (None, [], ""))
    return ", ".join(told) or "not described"


def _versions(environment: Mapping[str, Any]) -> str:
    packages = {"python": environment["python"], "peftrec": environment["peftrec"], **environment["packages"]}
    return ", ".join(f"{name} {version}" for name, version in packages.items() if version)


def _list(names: Sequence[str]) -> str:
    """Return names with semicolons between them: they may have commas inside."""
    return "; ".join(names)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _data(results: Sequence[Result]) -> Iterator[str]:
    """Say so where results of one data set were made of other data."""
    digests: dict[str, set[str]] = {}
    for result in results:
        digests.setdefault(result.run["dataset"], set()).add(result.content["data_sha256"])
    for dataset, found in sorted(digests.items()):
        if len(found) > 1:
            yield f"MIXED: results of {dataset} were made of {len(found)} versions of the data."
