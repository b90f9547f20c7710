"""What a table shows, in sentences, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from peftrec.benchmark.report.cell import ONE_SEED
from peftrec.benchmark.report.course import COLD, target_slices
from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.quality import LEVEL
from peftrec.benchmark.report.result import METRICS

ENOUGH_KEPT: Final = 0.99
FEW_PARAMETERS: Final = 0.01
"""A method is called efficient if it keeps so much of full fine-tuning and trains so little of the language model."""
METRIC: Final = METRICS[0].upper()
_NAMED_BASELINES: Final = ("content_knn", "popularity")


def findings(measured: MeasuredTable) -> list[str]:
    """Return what a table shows, a sentence or a few an entry."""
    found = [_data(measured), *_untrained(measured), *_efficient(measured), *_differences(measured)]
    return [*found, *_cold(measured), *_not_compared(measured), *_seeds(measured), *_budgets(measured)]


def _data(measured: MeasuredTable) -> str:
    test: dict[str, Any] = next(
        line.row.first.content["test"] for line in measured.lines if measured.table.comparable(line.row)
    )
    rules = test["protocol"]
    return (
        f"Tested on {test['num_cases']:,} cases of {test['num_users']:,} users ({measured.table.dataset_label}); "
        f"{rules['num_items']:,} items ranked ({rules['catalogue']} catalogue), history {rules['history']}."
    )


def _untrained(measured: MeasuredTable) -> Iterator[str]:
    """Name the baselines that every result must be seen beside."""
    for kind in _NAMED_BASELINES:
        rows = [line for line in measured.lines if line.row.method == kind]
        if not rows:
            yield f"There is no result of {kind} here, so the table does not show what comes without training."
    named = [f"{_name(line)} {_value(line):.4f}" for line in measured.lines if line.row.method in _NAMED_BASELINES]
    if named:
        yield f"Without any training: {', '.join(named)} {METRIC}."


def _efficient(measured: MeasuredTable) -> Iterator[str]:
    """Say which methods keep what full fine-tuning reaches with few parameters, or which condition fails."""
    if measured.table.reference is None:
        yield "There is no result of full fine-tuning, so nothing can be said of what others keep of it."
        return
    methods = [line for line in measured.models if line.quality.kept is not None and line.expense.trained_lm]
    shares = f"{ENOUGH_KEPT:.0%} of full fine-tuning's {METRIC} with at most {FEW_PARAMETERS:.0%} of the LM trained"
    few = [line for line in methods if (line.expense.share_lm or 0) <= FEW_PARAMETERS]
    good = [line for line in methods if _kept(line) >= ENOUGH_KEPT]
    both = [line for line in few if line in good]
    if both:
        yield f"At least {shares}: {_list([f'{_name(line)} ({_share(line)})' for line in both])}."
        sure = [_name(line) for line in both if line.quality.kept and line.quality.kept.low >= ENOUGH_KEPT]
        yield (
            f"Of these the whole interval lies there for {_list(sure)}."
            if sure
            else f"Of none of these does the whole {LEVEL:.0%} interval lie there, so it is an estimate and not sure."
        )
    else:
        yield f"No method keeps {shares}: {_why_none(few, good)}."
    for line in measured.lines:
        if line not in methods and line.quality.kept is not None and _kept(line) >= ENOUGH_KEPT:
            yield f"{_name(line)} trains nothing of the language model and reaches {_share(line)} of it."


def _why_none(few: Sequence[Line], good: Sequence[Line]) -> str:
    """Say which of both conditions fails, and by how much."""
    if few:
        best = max(few, key=_kept)
        reasons = [f"of those that train so little the best is {_name(best)}, which keeps {_share(best)}"]
    else:
        reasons = ["none trains so little"]
    if good:
        least = min(good, key=lambda line: line.expense.share_lm or 1.0)
        share = least.expense.share_lm or 1.0
        reasons.append(f"of those that keep so much {_name(least)} trains least, {share:.2%} of the LM")
    else:
        reasons.append("none keeps so much with more parameters either")
    return "; ".join(reasons)


def _differences(measured: MeasuredTable) -> Iterator[str]:
    """Say what differs from full fine-tuning after the correction."""
    compared = [line for line in measured.lines if line.quality.test is not None]
    if not compared:
        return
    told = f"Against full fine-tuning, {METRIC} paired over users, Holm's correction over {len(compared)} comparisons"
    better = [line for line in compared if line.quality.differs and _difference(line) > 0]
    worse = [line for line in compared if line.quality.differs and _difference(line) < 0]
    rest = [line for line in compared if not line.quality.differs]
    yield (
        f"{told}: significantly better {_list(map(_name, better))}; significantly worse {_list(map(_name, worse))}; "
        f"not told apart {_list(map(_name, rest))}, which does not show that they are equal."
    )
    unsure = [
        line for line in (*better, *worse) if line.quality.test and line.quality.test.low * line.quality.test.high < 0
    ]
    if unsure:
        yield (
            f"p-values hold for the seeds that were run. With other seeds {_list(map(_name, unsure))} may come out "
            f"otherwise: the interval over users and seeds has 0 in it."
        )


def _cold(measured: MeasuredTable) -> Iterator[str]:
    """Say how targets without a training event fare."""
    found = [(line, target_slices(line).get(COLD)) for line in measured.lines]
    known = [(line, entry) for line, entry in found if entry is not None]
    if not known:
        yield "No test case has a target without training events, so nothing is shown of cold items."
        return
    line, best = max(known, key=lambda pair: pair[1].value)
    yield (
        f"On cold targets, which nobody had in training, {_name(line)} has the highest {METRIC}, {best.value:.4f} "
        f"[{best.low:.4f}, {best.high:.4f}] over users; differences there were not tested."
    )


def _not_compared(measured: MeasuredTable) -> Iterator[str]:
    others = [_name(line) for line in measured.lines if not measured.table.comparable(line.row)]
    if others:
        yield (
            f"Tested on other cases or under other rules, so not paired with the rest, and not to be compared with "
            f"it: {_list(others)}."
        )


def _seeds(measured: MeasuredTable) -> Iterator[str]:
    single = [_name(line) for line in measured.lines if len(line.row.runs) == 1]
    if single:
        yield (
            f"{ONE_SEED} marks rows of one run, whose intervals are over users alone and say nothing of other seeds "
            f"(popularity and content_knn draw nothing at random): {_list(single)}."
        )
    yield from (f"{_name(line)}: {line.row.warning}." for line in measured.lines if line.row.warning)


def _budgets(measured: MeasuredTable) -> Iterator[str]:
    """Say how much each method was tuned."""
    by_budget: dict[str, list[str]] = {}
    for line in measured.models:
        by_budget.setdefault(_budget(line), []).append(_name(line))
    if len(by_budget) == 1:
        yield f"Every model had the same tuning: {next(iter(by_budget))}. Validation alone chose."
    elif by_budget:
        told = "; ".join(f"{budget}: {_list(names)}" for budget, names in sorted(by_budget.items()))
        yield f"Tuning differs, which favours those with more trials. {told}."


def _budget(line: Line) -> str:
    if line.row.tuned_on is not None:
        return f"no trials here, the best values of {line.row.tuned_on}"
    if line.row.num_trials == 0:
        return "no trials"
    return f"{line.row.num_trials} trial{'s' if line.row.num_trials > 1 else ''}"


def _name(line: Line) -> str:
    """Return what a line is called, in quotes where a list of names would take it for two."""
    return f"'{line.row.label}'" if "," in line.row.label else line.row.label


def _value(line: Line) -> float:
    return line.quality.means[METRICS[0]].value


def _kept(line: Line) -> float:
    return line.quality.kept.value if line.quality.kept is not None else 0.0


def _difference(line: Line) -> float:
    return line.quality.test.difference if line.quality.test is not None else 0.0


def _share(line: Line) -> str:
    kept = line.quality.kept
    assert kept is not None, "only what was compared has a share"
    return f"{kept.value:.1%} [{kept.low:.1%}, {kept.high:.1%}]"


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
