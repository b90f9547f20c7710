"""`write_report(folder)`: the results of a suite as Markdown, one HTML page, and plots."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from peftrec.benchmark.report.cell import cost_table, main_table, run_table
from peftrec.benchmark.report.condition import cost_notes, setting_notes, tpme_note
from peftrec.benchmark.report.course import cold_against_warm, learning_curves
from peftrec.benchmark.report.drawing import embedded
from peftrec.benchmark.report.finding import findings
from peftrec.benchmark.report.measured import MeasuredTable, measure_table
from peftrec.benchmark.report.readme import rewrite_readme
from peftrec.benchmark.report.result import LeftOut, Results, read_results
from peftrec.benchmark.report.row import make_tables
from peftrec.benchmark.report.trade_off import Picture, trade_offs
from peftrec.config import InputError
from peftrec.evaluation.report_page import report_markdown, report_page
from peftrec.evaluation.section import Plot, Section, Table
from peftrec.publishing import replace_text
from peftrec.publishing.aside import written_aside

MARKDOWN: Final = "REPORT.md"
PAGE: Final = "report.html"
PLOTS: Final = "plots"
# What the names of plots end with.
_KINDS: Final = ("parameters", "size", "memory", "seconds", "curves", "cold")
_COLUMN_NOTE: Final = (
    "In brackets 95% intervals, over users and seeds together where there are several. % of full: share of full "
    "fine-tuning's NDCG@10. minus full: difference from it, paired over users; p after Holm's correction over the "
    "table. files: what a run publishes. memory, step and epoch were measured apart from the runs, on an idle machine. "
    "trials: tuning, by validation."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """What `write_report` did.

    Args:
        files: written, the Markdown and the page first.
        num_runs: in the tables, or trials that lost.
        left_out: what is in no table, and why.
    """

    files: tuple[Path, ...]
    num_runs: int
    left_out: tuple[LeftOut, ...]

    @property
    def refused(self) -> list[LeftOut]:
        """Return the files with which something is wrong."""
        return [entry for entry in self.left_out if entry.refused]


def write_report(
    folder: str | Path, *, output: str | Path | None = None, readme: str | Path | None = None
) -> WrittenReport:
    """Draw up the report of a suite from its JSON files, and the ranks of cases beside them.

    The same results give the same bytes. What is broken, foreign or claimed twice is left out and named in the report.

    Args:
        folder: with a `*.json` a run.
        output: where `REPORT.md`, `report.html` and `plots/` go; by default the folder itself.
        readme: a Markdown file whose block between `<!-- benchmark:begin -->` and `<!-- benchmark:end -->` is
            rewritten with the largest table and one plot.
    Returns:
        What was written, and what was left out.
    Raises:
        InputError: if no result can be used, the README has no such block, or jsonschema or matplotlib is missing.
        OSError: if files cannot be written.
    """
    source, target = Path(folder), Path(output if output is not None else folder)
    results = read_results(source)
    if not results.usable:
        told = "; ".join(f"{entry.name}: {entry.reason}" for entry in results.left_out)
        raise InputError(f"{source}: no result can be used; {told}")
    tables, strangers = make_tables(results)
    left_out = tuple(sorted((*results.left_out, *strangers), key=lambda entry: entry.name))
    measured = [measure_table(table) for table in tables]
    pictures = [_pictures(one) for one in measured]
    sections = _sections(results, measured, pictures, left_out)
    title = f"Benchmark {', '.join(sorted({str(result.run['suite']) for result in results.usable}))}"
    if readme is not None:  # First, since it may be refused.
        rewrite_readme(Path(readme), measured, pictures, target / PLOTS, target / MARKDOWN)
    replace_text(target / MARKDOWN, report_markdown(sections, title, PLOTS))
    replace_text(target / PAGE, report_page(sections, title))
    files = [target / MARKDOWN, target / PAGE]
    for one, drawn in zip(measured, pictures, strict=True):
        _remove_old(one, drawn, target / PLOTS)
        for picture in drawn:
            files += _write_picture(picture, target / PLOTS)
    return WrittenReport(files=tuple(files), num_runs=len(results.usable) - len(strangers), left_out=left_out)


def _pictures(measured: MeasuredTable) -> list[Picture]:
    others = (learning_curves(measured), cold_against_warm(measured))
    return [*trade_offs(measured), *(picture for picture in others if picture is not None)]


def _remove_old(measured: MeasuredTable, drawn: Sequence[Picture], folder: Path) -> None:
    """Remove plots of the table that an earlier report drew and this one does not: they would be taken for its own."""
    written = {picture.name for picture in drawn}
    for kind in _KINDS:
        name = f"{measured.table.slug}_{kind}"
        if name not in written:
            for ending in ("svg", "png"):
                (folder / f"{name}.{ending}").unlink(missing_ok=True)


def _write_picture(picture: Picture, folder: Path) -> list[Path]:
    svg, png = folder / f"{picture.name}.svg", folder / f"{picture.name}.png"
    replace_text(svg, picture.svg)
    with written_aside(png) as file:
        file.write(picture.png)
    return [svg, png]


def _sections(
    results: Results,
    measured: Sequence[MeasuredTable],
    pictures: Sequence[Sequence[Picture]],
    left_out: Sequence[LeftOut],
) -> list[Section]:
    found = [section for one, drawn in zip(measured, pictures, strict=True) for section in _of_table(one, drawn)]
    found.append(Section("How the results were made", tuple(setting_notes(results.usable)), ()))
    found += [Section(f"{one.table.title}: runs", (), (run_table(one),)) for one in measured]
    if left_out:
        rows = tuple((entry.name, "refused" if entry.refused else "run", entry.reason) for entry in left_out)
        note = "In no table above: files with which something is wrong, and runs that did not end well."
        found.append(Section("Left out", (note,), (Table(("file", "", "reason"), rows, texts=(0, 1, 2)),)))
    return found


def _of_table(measured: MeasuredTable, drawn: Sequence[Picture]) -> Iterator[Section]:
    title = measured.table.title
    plots = tuple(
        Plot(name=picture.name, told=picture.told, legend="", svg=embedded(picture.svg, picture.name))
        for picture in drawn
    )
    notes = (*findings(measured), *cost_notes(measured))
    yield Section(title, (_COLUMN_NOTE, *tpme_note(measured)), (main_table(measured),))
    yield Section(f"{title}: what this shows, and what it does not", notes, plots)
    costs = cost_table(measured)
    if costs is not None:
        note = "Medians with the least and the greatest, by steps that had the machine to themselves."
        yield Section(f"{title}: costs in detail", (note,), (costs,))
