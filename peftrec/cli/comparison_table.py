"""What a comparison shows: a letter for each run, and a block of lines for each metric."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from peftrec.cli.table import console

if TYPE_CHECKING:
    from peftrec.comparing import Comparison
    from peftrec.evaluation import PairedTest, SeedSpread
    from peftrec.publishing import Arm

_BETTER = {True: ", higher is better", False: ", lower is better", None: ""}


def print_comparison(found: Comparison) -> None:
    """Print paired tests, metric by metric; letters stand for runs, so that figures fit into 80 columns."""
    letters = {arm.name: _letter(number) for number, arm in enumerate(found.arms)}
    first, *others = letters.values()
    out = console()
    # Names of folders are not broken: they are there to be copied.
    for line in (_headline(found, first, others), *_legend(found, letters)):
        out.print(line, soft_wrap=True)
    if found.catalogue != "full":
        out.print(f"TARGETS RANKED AMONG {found.catalogue}: this may order models otherwise than the whole catalogue")
    out.print()
    for line in _blocks(found, letters):
        out.print(line, soft_wrap=True)
    out.print()
    for line in _notes(found, letters):
        out.print(line)


def _letter(number: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    more, place = divmod(number, len(string.ascii_uppercase))
    return (_letter(more - 1) if more else "") + string.ascii_uppercase[place]


def _headline(found: Comparison, first: str, others: list[str]) -> str:
    test = found.tests[0].test
    against = others[0] if len(others) == 1 else "each of the others"
    return (
        f"{found.split}: {first} is compared with {against}, on the same {test.num_users + test.num_left_out:,} users; "
        f"a difference is {first} minus the other"
    )


def _legend(found: Comparison, letters: Mapping[str, str]) -> Iterator[str]:
    """Say which runs each letter stands for."""
    width = max(map(len, letters.values()))
    for arm in found.arms:
        several = "" if len(arm.folders) == 1 else f" ({len(arm.folders)} runs, seeds {', '.join(map(str, arm.seeds))})"
        yield f"{letters[arm.name]:>{width}}  {arm.name}{several}"


def _blocks(found: Comparison, letters: Mapping[str, str]) -> Iterator[str]:
    """Lay out the tests, those of a metric under its name, below one line of what stands in which column."""
    from peftrec.metrics import higher_is_better

    first = letters[found.arms[0].name]
    titles = ["", first, "other", "difference", f"{100 * found.tests[0].test.level:g}% interval", "p", "p (Holm)"]
    cells = [_cells(f"{first} - {letters[row.other]}", row.test, row.adjusted_p_value) for row in found.tests]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    yield _line(titles, widths)
    for metric in dict.fromkeys(row.test.metric for row in found.tests):
        yield f"{metric.upper()}{_BETTER[higher_is_better(metric)]}"
        for row, own in zip(found.tests, cells, strict=True):
            if row.test.metric == metric:
                yield _line(own, widths)
                if row.test.seeds is not None:
                    yield f"    over seeds {_seeds(row.test.seeds)}"


def _cells(pair: str, test: PairedTest, adjusted: float) -> list[str]:
    interval = f"[{test.low:+.4f}, {test.high:+.4f}]"
    means = [f"{test.first:.4f}", f"{test.second:.4f}", f"{test.difference:+.4f}"]
    return [pair, *means, interval, f"{test.p_value:.4f}", f"{adjusted:.4f}"]


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join(["", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])


def _seeds(seeds: SeedSpread) -> str:
    """Tell range, standard deviation, and how many pairs of runs agree."""
    agree = f"same sign in {seeds.num_agree} of {seeds.num_pairs}"
    return f"{seeds.low:+.4f} to {seeds.high:+.4f}, sd {seeds.deviation:.4f}, {agree}"


def _notes(found: Comparison, letters: Mapping[str, str]) -> Iterator[str]:
    """Say what the figures do not."""
    first, *others = found.arms
    tests = {row.other: row.test for row in found.tests}
    for arm in others:
        seeds = tests[arm.name].seeds
        pair = f"{letters[first.name]} - {letters[arm.name]}"
        if seeds is not None and seeds.paired:
            yield f"{pair}: runs of one seed are paired."
        elif seeds is not None:
            apart = "not the same seeds" if first.seeds and arm.seeds else "one has no seed"
            yield f"{pair}: {apart}, so each run is compared with each ({seeds.num_pairs} pairs)."
    if any(test.seeds is not None for test in tests.values()):
        yield "The interval is of users and seeds; p holds for the seeds that were run, and says nothing of others."
    yield from _of_runs(found, letters)
    yield from _of_data(first, others, letters)
    for row in found.tests:
        if row.test.num_cases_left_out:
            yield _left_out(letters[row.other], row.test)


def _of_runs(found: Comparison, letters: Mapping[str, str]) -> Iterator[str]:
    """Say which sides are too few runs to tell of other seeds, and which have none to tell of."""
    single = [letters[arm.name] for arm in found.arms if len(arm.folders) == 1 and arm.seeds]
    if single:
        are, it = ("is a single run", "it") if len(single) == 1 else ("are single runs", "them")
        yield f"{', '.join(single)} {are}: interval and p tell nothing of other seeds of {it}."
    without = [letters[arm.name] for arm in found.arms if not arm.seeds]
    if without:
        has = "has no seed: another run of it" if len(without) == 1 else "have no seed: another run of one"
        yield f"{', '.join(without)} {has} would be the same."


def _of_data(first: Arm, others: list[Arm], letters: Mapping[str, str]) -> Iterator[str]:
    """Say where two sides were not, or may not have been, measured on the same data."""
    for arm in others:
        if arm.data_sha256 == first.data_sha256:
            continue
        pair = f"{letters[first.name]} and {letters[arm.name]}"
        if arm.reads_times == first.reads_times:
            sums = f"{first.data_sha256 or 'none':.12} and {arm.data_sha256 or 'none':.12}"
            yield f"{pair} differ in data_sha256 ({sums}): users and targets are the same, the rest of the data is not."
        else:
            yield f"{pair}: data_sha256 holds the times of events for one alone, so it cannot tell whether data agree."


def _left_out(other: str, test: PairedTest) -> str:
    return (
        f"{test.metric.upper()} against {other}: {test.num_left_out:,} users are left out, {test.num_users:,} compared "
        f"(it is undefined in {test.num_cases_left_out:,} cases of one run or more)"
    )
