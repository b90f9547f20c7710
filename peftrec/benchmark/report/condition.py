"""Under which conditions results were made: what was not measured, and what was mixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from peftrec.benchmark.report.expense import TPME_WEIGHTS, machine_of
from peftrec.benchmark.report.measured import MeasuredTable
from peftrec.benchmark.report.result import Result

# Above this share of the machine other work is worth a word.
_DISTURBED: Final = 0.05


def cost_notes(measured: MeasuredTable) -> list[str]:
    """Say what the costs of a table are, and which are missing."""
    costs = {line.row.label: line.row.cost for line in measured.models}
    missing = [label for label, cost in costs.items() if cost is None]
    known = {label: cost for label, cost in costs.items() if cost is not None}
    notes = []
    if missing and known:
        notes.append(f"Memory and step times were not measured for {', '.join(missing)}.")
    if not known:
        return ["Memory and step times were not measured; seconds of whole runs shared the machine with other work."]
    disturbed = [
        f"{label} ({cost['other_work']:.0%} of the machine)"
        for label, cost in known.items()
        if (cost["other_work"] or 0) > _DISTURBED
    ]
    unknown = [label for label, cost in known.items() if cost["other_work"] is None]
    if disturbed:
        notes.append(f"Measured beside other work, so slower than they are: {', '.join(disturbed)}.")
    if unknown:
        notes.append(f"Whether other work ran meanwhile is not known for {', '.join(unknown)}.")
    kinds = sorted({cost["memory_mib"].get("kind", "rss") for cost in known.values()})
    notes.append(f"Memory is {' and '.join(kinds)}, at the peak of training, above imports, data and weights.")
    machines = {machine_of(cost["environment"]) for cost in known.values()}
    if len(machines) > 1:
        notes.append(f"Costs come from {len(machines)} kinds of machines, so they are not comparable; no TPME.")
    elif any(line.tpme is not None for line in measured.lines):
        time, parameters, memory = TPME_WEIGHTS
        notes.append(
            f"TPME (Fu et al. 2024, IISAN) = {time:g} T + {parameters:g} P + {memory:g} M: seconds of an epoch, "
            f"trained parameters and memory, each from 0, the least of the table, to 1, the most. Less is better; it "
            f"compares the rows of this table alone."
        )
    return notes


def setting_notes(results: Sequence[Result]) -> list[str]:
    """Say which code, machines and versions made the results, and where they are mixed."""
    environments = [result.content["environment"] for result in results]
    notes = [
        _mixed("suite", "suites", (str(result.run["suite"]) for result in results)),
        _mixed("commit", "commits", (_commit(environment) for environment in environments)),
        _mixed("machine", "kinds of machines", (_machine(environment["machine"]) for environment in environments)),
        _mixed("set of versions", "sets of versions", (_versions(environment) for environment in environments)),
    ]
    return [*notes, *_data(results)]


def _mixed(one: str, several: str, values: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return f"One {one}: {distinct[0]}."
    return f"MIXED: {len(distinct)} {several}: {'; '.join(sorted(distinct))}."


def _commit(environment: Mapping[str, Any]) -> str:
    commit = environment["commit"]
    told = "unknown" if commit is None else commit[:12]
    return (
        told
        + {True: " with changes that are not committed", False: "", None: ", clean or not is unknown"}[
            environment["dirty"]
        ]
    )


def _machine(machine: Mapping[str, Any]) -> str:
    told = (f"{key} {_plain(value)}" for key, value in sorted(machine.items()) if value not in (None, [], ""))
    return ", ".join(told) or "not described"


def _versions(environment: Mapping[str, Any]) -> str:
    packages = {"python": environment["python"], "peftrec": environment["peftrec"], **environment["packages"]}
    return ", ".join(f"{name} {version}" for name, version in packages.items() if version)


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
