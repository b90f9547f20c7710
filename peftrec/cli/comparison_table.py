"""The table of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from peftrec.cli.table import console

if TYPE_CHECKING:
    from peftrec.comparing import Comparison
    from peftrec.evaluation import PairedTest, SeedSpread


def print_comparison(found: Comparison) -> None:
    """Print paired tests, a row for each metric of each run that the first is compared with."""
    first, *others = [arm.name for arm in found.arms]
    several = len(others) > 1
    tests = [row.test for row in found.tests]
    with_seeds = any(test.seeds for test in tests)
    seeds = ("over seeds", "sd", "same sign") if with_seeds else ()
    table = Table(box=box.SIMPLE_HEAD)
    if several:
        table.add_column("minus", overflow="fold")
    table.add_column("", no_wrap=True)
    for name in ("first", "other", "difference", f"{100 * tests[0].level:g}% interval", *seeds, "p", "p (Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.tests:
        test = row.test
        cells = [row.other] if several else []
        cells += [test.metric.upper(), f"{test.first:.4f}", f"{test.second:.4f}", f"{test.difference:+.4f}"]
        cells += [f"[{test.low:+.4f}, {test.high:+.4f}]", *(_seeds(test.seeds) if with_seeds else ())]
        table.add_row(*cells, f"{test.p_value:.4f}", f"{row.adjusted_p_value:.4f}")
    out = console()
    subtrahend = "each run in the column minus" if several else others[0]
    num_users = tests[0].num_users + tests[0].num_left_out
    out.print(f"{found.split}, {first} minus {subtrahend}, the same {num_users:,} users", soft_wrap=True)
    if found.catalogue != "full":
        out.print(f"TARGETS RANKED AMONG {found.catalogue}: this may order models otherwise than the whole catalogue")
    out.print(table)
    for line in _notes(found):
        out.print(line, soft_wrap=True)


def _seeds(seeds: SeedSpread | None) -> tuple[str, str, str]:
    """Return range, standard deviation, and how many pairs of runs agree."""
    if seeds is None:
        return "", "", ""
    agree = f"{seeds.num_agree} of {seeds.num_pairs}"
    return f"{seeds.low:+.4f} to {seeds.high:+.4f}", f"{seeds.deviation:.4f}", agree


def _notes(found: Comparison) -> list[str]:
    """Say what the columns do not."""
    lines = [
        f"{arm.name}: {len(arm.folders)} runs, seeds {', '.join(map(str, arm.seeds))}"
        for arm in found.arms
        if len(arm.folders) > 1
    ]
    tests = {row.other: row.test for row in found.tests}
    for name, test in tests.items():
        if test.seeds is not None:
            lines.append(_of_seeds(found.arms[0].name, name, test.seeds))
    if lines:
        lines.append(
            "The interval is of users and seeds; p holds for the seeds that were run, and says nothing of others."
        )
    for row in found.tests:
        if row.test.num_cases_left_out:
            lines.append(_left_out(row.other, row.test))
    return lines


def _of_seeds(first: str, other: str, seeds: SeedSpread) -> str:
    """Say which runs were compared with which."""
    if seeds.paired:
        return f"{first} minus {other}: runs of one seed are paired."
    line = f"{first} minus {other}: other seeds, so each run is compared with each ({seeds.num_pairs} pairs)."
    single = [name for name, number in ((first, seeds.num_first), (other, seeds.num_second)) if number == 1]
    return line + "".join(f" {name} is one run: the interval knows nothing of other seeds of it." for name in single)


def _left_out(other: str, test: PairedTest) -> str:
    return (
        f"{test.metric.upper()} against {other}: {test.num_left_out:,} users are left out, {test.num_users:,} compared "
        f"(it is undefined in {test.num_cases_left_out:,} cases of one run or more)"
    )
