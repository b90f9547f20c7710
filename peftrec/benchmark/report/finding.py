"""What a table shows, in sentences, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from peftrec.benchmark.report.cell import ONE_SEED
from peftrec.benchmark.report.course import COLD, target_slices
from peftrec.benchmark.report.fairness import budgets, listed, name_of, other_settings
from peftrec.benchmark.report.measured import Line, MeasuredTable
from peftrec.benchmark.report.quality import LEVEL
from peftrec.benchmark.report.result import METRICS
from peftrec.benchmark.report.row import REFERENCE

ENOUGH_KEPT: Final = 0.99
FEW_PARAMETERS: Final = 0.01
"""A method is called efficient if it keeps so much of full fine-tuning and trains so little of the language model."""
METRIC: Final = METRICS[0].upper()
_NAMED_BASELINES: Final = ("content_knn", "popularity")


def findings(measured: MeasuredTable) -> list[str]:
    """Return what a table shows, a sentence or a few an entry."""
    found = [_data(measured), *_untrained(measured), *_efficient(measured), *_differences(measured)]
    found += [*_cold(measured), *_not_compared(measured), *_seeds(measured)]
    return [*found, *budgets(measured), *other_settings(measured)]


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
    comparable = [line for line in measured.lines if measured.table.comparable(line.row)]
    for kind in _NAMED_BASELINES:
        rows = [line for line in comparable if line.row.method == kind]
        if not rows:
            yield f"There is no result of {kind} here, so the table does not show what comes without training."
    named = [f"{name_of(line)} {_value(line):.4f}" for line in comparable if line.row.method in _NAMED_BASELINES]
    if named:
        yield f"Without any training: {', '.join(named)} {METRIC}."


def _efficient(measured: MeasuredTable) -> Iterator[str]:
    """Say which methods keep what full fine-tuning reaches with few parameters, or which condition fails."""
    if measured.table.reference is None:
        unsure = any(line.row.method == REFERENCE for line in measured.lines)
        told = (
            "It is not sure which trial of full fine-tuning was the best"
            if unsure
            else "There is no result of full fine-tuning"
        )
        yield f"{told}, so nothing can be said of what others keep of it."
        return
    methods = [line for line in measured.models if line.quality.kept is not None and line.expense.trained_lm]
    shares = f"{ENOUGH_KEPT:.0%} of full fine-tuning's {METRIC} with at most {FEW_PARAMETERS:.0%} of the LM trained"
    few = [line for line in methods if (line.expense.share_lm or 0) <= FEW_PARAMETERS]
    good = [line for line in methods if _kept(line) >= ENOUGH_KEPT]
    both = [line for line in few if line in good]
    if both:
        yield f"At least {shares}: {listed([f'{name_of(line)} ({_share(line)})' for line in both])}."
        sure = [name_of(line) for line in both if line.quality.kept and line.quality.kept.low >= ENOUGH_KEPT]
        yield (
            f"Of these the whole interval lies there for {listed(sure)}."
            if sure
            else f"Of none of these does the whole {LEVEL:.0%} interval lie there, so it is an estimate and not sure."
        )
    else:
        yield f"No method keeps {shares}: {_why_none(few, good)}."
    for line in measured.lines:
        if line not in methods and line.quality.kept is not None and _kept(line) >= ENOUGH_KEPT:
            yield f"{name_of(line)} trains nothing of the language model and reaches {_share(line)} of it."


def _why_none(few: Sequence[Line], good: Sequence[Line]) -> str:
    """Say which of both conditions fails, and by how much."""
    if few:
        best = max(few, key=_kept)
        reasons = [f"of those that train so little the best is {name_of(best)}, which keeps {_share(best)}"]
    else:
        reasons = ["none trains so little"]
    if good:
        least = min(good, key=lambda line: line.expense.share_lm or 1.0)
        share = least.expense.share_lm or 1.0
        reasons.append(f"of those that keep so much {name_of(least)} trains least, {share:.2%} of the LM")
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
        f"{told}: significantly better {listed(map(name_of, better))}; "
        f"significantly worse {listed(map(name_of, worse))}; "
        f"not told apart {listed(map(name_of, rest))}, which does not show that they are equal."
    )
    unsure = [
        line for line in (*better, *worse) if line.quality.test and line.quality.test.low * line.quality.test.high < 0
    ]
    if unsure:
        yield (
            f"p-values hold for the seeds that were run. With other seeds {listed(map(name_of, unsure))} may come out "
            f"otherwise: the interval over users and seeds has 0 in it."
        )


def _cold(measured: MeasuredTable) -> Iterator[str]:
    """Say how targets without a training event fare."""
    found = [(line, target_slices(line).get(COLD)) for line in measured.lines if measured.table.comparable(line.row)]
    known = [(line, entry) for line, entry in found if entry is not None]
    if not known:
        yield "No test case has a target without training events, so nothing is shown of cold items."
        return
    line, best = max(known, key=lambda pair: pair[1].value)
    yield (
        f"On cold targets, which nobody had in training, {name_of(line)} has the highest {METRIC}, {best.value:.4f} "
        f"[{best.low:.4f}, {best.high:.4f}] over users; differences there were not tested."
    )


def _not_compared(measured: MeasuredTable) -> Iterator[str]:
    others = [name_of(line) for line in measured.lines if not measured.table.comparable(line.row)]
    if others:
        yield (
            f"Tested on other cases or under other rules, so not paired with the rest, and not to be compared with "
            f"it: {listed(others)}."
        )


def _seeds(measured: MeasuredTable) -> Iterator[str]:
    single = [name_of(line) for line in measured.lines if len(line.row.runs) == 1]
    if single:
        yield (
            f"{ONE_SEED} marks rows of one run, whose intervals are over users alone and say nothing of other seeds "
            f"(popularity and content_knn draw nothing at random): {listed(single)}."
        )
    yield from (f"{name_of(line)}: {line.row.warning}." for line in measured.lines if line.row.warning)


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
