"""The part of a README that shows a benchmark: its largest table, and one plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from peftrec.benchmark.report.cell import ONE_SEED, main_table
from peftrec.benchmark.report.finding import findings
from peftrec.benchmark.report.measured import MeasuredTable
from peftrec.benchmark.report.trade_off import Picture
from peftrec.config import InputError
from peftrec.evaluation.report_page import report_markdown
from peftrec.evaluation.section import Section
from peftrec.publishing import replace_text

BEGIN: Final = "<!-- benchmark:begin -->"
END: Final = "<!-- benchmark:end -->"
_KEY: Final = (
    f"% of full: share of full fine-tuning's NDCG@10; p of the difference from it, paired over users, after Holm's "
    f"correction; {ONE_SEED}: one run, its interval over users alone."
)


def rewrite_readme(
    readme: Path,
    measured: Sequence[MeasuredTable],
    pictures: Sequence[Sequence[Picture]],
    plots: Path,
    report: Path,
) -> None:
    """Replace what stands between the marks of a README; the rest stays as it is.

    Args:
        readme: the file.
        measured: tables, of which the one with most rows is shown.
        pictures: of each table; the first is shown.
        plots: folder of the pictures' files.
        report: the whole report, which is linked.
    Raises:
        InputError: if the file is missing, or does not have each mark once, in this order.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{readme}: cannot be read ({error})") from None
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"{readme}: must have one line {BEGIN} and below it one line {END}; nothing was written")
    place = max(range(len(measured)), key=lambda at: (len(measured[at].lines), -at))
    block = _block(measured[place], pictures[place], _link(plots, readme), _link(report, readme))
    replace_text(readme, f"{text[: begin + len(BEGIN)]}\n{block}\n{text[end:]}")


def _block(measured: MeasuredTable, pictures: Sequence[Picture], plots: str, report: str) -> str:
    section = Section(measured.table.title, (), (main_table(measured, short=True),))
    # Without the title and the headline, which are the README's own.
    table = report_markdown([section], "", "").split("\n\n", 2)[2].strip()
    parts = [f"{measured.table.title}:", table, *findings(measured)[:1], _KEY]
    parts += [f"![{picture.told}]({plots}/{picture.name}.svg)" for picture in pictures[:1]]
    return "\n\n".join((*parts, f"All tables, plots and what they do not show: [{report}]({report})."))


def _link(target: Path, readme: Path) -> str:
    return Path(os.path.relpath(target.resolve(), readme.resolve().parent)).as_posix()
