"""`report(run)`: everything that can be told of a run on a split, written as JSON, Markdown and one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftrec.config import InputError, RecipeError
from peftrec.data import Dataset
from peftrec.detailing import Full
from peftrec.evaluating import Measured, measure_run, unless_read_only
from peftrec.evaluation import Evaluation
from peftrec.evaluation.report import sections
from peftrec.evaluation.report_page import plot_files, report_markdown, report_page
from peftrec.launch import Ranks, all_or_none
from peftrec.measuring import write_users
from peftrec.publishing import MANIFEST, METRICS, Run, replace_text, replace_texts
from peftrec.publishing.card import CARD, make_card


def report(
    run: Run | str | Path,
    *,
    split: str = "test",
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    dataset: Dataset | None = None,
    ranks: Ranks | None = None,
) -> dict[str, Any]:
    """Measure a run in full: metrics of ranks and of lists, slices, gaps between groups, curves; and write it down.

    `metrics.json` (its part of this split), the card, `report_<split>.md`, `report_<split>.html` and the plots of the
    former go into the run folder, results of single users into its `private/`. With other data than the run's or other
    rules of evaluation they may not stand there: then only `output` is written, with the same files but for the card.

    Args:
        run: a loaded run, or its folder.
        split: `valid` or `test`.
        overrides: of the sections `data` and `evaluation`.
        output: a folder to write to in place of the run's.
        dataset: use this instead of loading what the recipe names.
        ranks: processes that share the cases, called alike on each (`peftrec.launch.launched()`), of which the first
            writes; None for this one alone.
    Returns:
        What `evaluate` does, with metrics of lists among the others, `slices`, `gaps`, `exposure`, `popularity_curve`
        and `exposure_curve`; and `written`, the files that this process wrote.
    Raises:
        RecipeError: if `output` holds a run.
        InputError: if the data hold other items than the run was trained on, or lack a column; if another process has
            failed.
        OSError: if the disk is full; where nothing may be written into the run, nothing is.
    """
    ranks = Ranks() if ranks is None else ranks
    if output is not None:
        _check_output(Path(output))
    measured = measure_run(run, split=split, overrides=overrides, dataset=dataset, full=True, ranks=ranks)
    full = Full(measured, ranks)
    results = full.results()
    with all_or_none(ranks):
        written = _write(output, results, measured, full.found) if ranks.is_first else []
    return results | {"written": written}


def _write(
    output: str | Path | None, results: dict[str, Any], measured: Measured, found: Mapping[str, Evaluation]
) -> list[str]:
    """Write into `output`, or into the run where this belongs to it; return the files."""
    if output is not None:
        return _write_folder(Path(output), results, measured, found)
    written: list[str] = []
    if measured.belongs_to_run:
        with unless_read_only():
            written = _write_run(results, measured, found)
    return written


def _texts(results: Mapping[str, Any], title: str, split: str) -> dict[str, str]:
    """Return the files that people read, by name."""
    found = sections(results)
    folder = f"report_{split}"
    plots = {f"{folder}/{name}": text for name, text in plot_files(found).items()}
    return {
        f"report_{split}.html": report_page(found, title),
        f"report_{split}.md": report_markdown(found, title, folder),
        **plots,
    }


def _write_run(results: dict[str, Any], measured: Measured, found: Mapping[str, Evaluation]) -> list[str]:
    """Write into the run folder; what was there of this split is replaced."""
    folder, split = measured.run.folder, measured.split
    own = {key: value for key, value in results.items() if key not in ("parameters", "training", "same_data")}
    texts = _texts(results, f"{folder.resolve().name}, {split}", split)
    # Read now: another process may have written another split meanwhile.
    stored = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    stored |= {split: own}
    # The card tells what is now known of cold items and of exposure.
    texts[CARD] = make_card(folder, measured.run.recipe, stored, len(measured.run.catalogue))
    replace_texts(folder, {METRICS: _json(stored), **texts})
    write_users(folder, split, measured.dataset, found, measured.sampled)
    return [str(folder / name) for name in (METRICS, *texts)]


def _check_output(folder: Path) -> None:
    """See that a folder may be written to, before anything is measured."""
    if (folder / MANIFEST).exists():
        raise RecipeError(
            f"output: {folder} holds a run; leave output out to write into the run itself, or name another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"output: {folder} is a file; name a folder")
    _other_splits(folder)


def _other_splits(folder: Path) -> dict[str, Any]:
    """Return what `metrics.json` holds there."""
    path = folder / METRICS
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged, or no file of peftrec ({error}); remove it, or name another folder"
        ) from None


def _write_folder(
    folder: Path, results: dict[str, Any], measured: Measured, found: Mapping[str, Evaluation]
) -> list[str]:
    """Write into a folder of the user's; files of these names are replaced, one by one and each as a whole."""
    split = measured.split
    folder.mkdir(parents=True, exist_ok=True)
    write_users(folder, split, measured.dataset, found, measured.sampled)
    texts = {METRICS: _json(_other_splits(folder) | {split: results})}
    texts |= _texts(results, f"{measured.run.folder.resolve().name}, {split}", split)
    for name, text in texts.items():
        replace_text(folder / name, text)
    return [str(folder / name) for name in texts]


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
