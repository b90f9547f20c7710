"""`evaluate(run)`: a run, measured again on the data of its recipe."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from peftrec.baselines import FittedBaseline, fit_references
from peftrec.build import tell_users
from peftrec.config import InputError, RecipeError
from peftrec.data import Dataset
from peftrec.evaluation import Evaluation, ProductScores, UserScores
from peftrec.frozen import frozen_vectors
from peftrec.launch import Ranks, all_or_none
from peftrec.losses import ItemPropensities
from peftrec.measuring import (
    SPLITS,
    Details,
    case_propensities,
    measure,
    of_users,
    read_details,
    results_of,
    sampled_evaluations,
    write_users,
)
from peftrec.publishing import METRICS, PRIVATE, Run, load_run
from peftrec.publishing.run_data import load_run_data
from peftrec.recipe import Recipe, recipe_for_evaluation

REFERENCE_FOLDER: Final = "references"
# What a run's results are told by; with others than its own they do not stand in its folder.
_RULES = ("evaluation.", "data.item_groups", "data.user_groups", "data.group_separator")
_OTHER_DATA = "These are NOT the events that the run was trained on: targets may be among those it learned from."


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A run and the references beside it, measured on a split.

    Args:
        run: loaded.
        recipe: of the run, with what was overridden.
        dataset: that it was measured on.
        split: `valid` or `test`.
        references: the baselines beside the run.
        scores: what was measured, by name: the model first.
        found: what was found for each.
        sampled: what was found for each among sampled candidates; empty where the recipe asks for none.
        propensities: of the targets, where metrics are to be estimated by them too.
        same_data: whether users, events and texts are those of the run.
        own_rules: whether the recipe's own rules of evaluation hold.
        stored: what the run's `metrics.json` holds.
        details: what a full evaluation reads beside; None where it is not one.
    """

    run: Run
    recipe: Recipe
    dataset: Dataset
    split: str
    references: Mapping[str, FittedBaseline]
    scores: Mapping[str, UserScores | ProductScores]
    found: Mapping[str, Evaluation]
    sampled: Mapping[str, Evaluation]
    propensities: ItemPropensities | None
    same_data: bool
    own_rules: bool
    stored: dict[str, Any]
    details: Details | None

    @property
    def belongs_to_run(self) -> bool:
        """Whether this may stand in the run's folder: only what its own recipe gives does."""
        return self.same_data and self.own_rules

    def results(self, found: Mapping[str, Evaluation] | None = None) -> dict[str, Any]:
        """Return what `evaluate` does.

        Args:
            found: what to tell of, in place of what was measured first.
        """
        results = results_of(
            self.found if found is None else found, self.dataset, self.split, self.sampled, self.propensities
        )
        results |= {name: self.stored[name] for name in ("parameters", "training")}
        if not self.same_data:
            results["leaks"] = f"{_OTHER_DATA} {results['leaks']}".strip()
        return results | {"same_data": self.same_data}


def evaluate(
    run: Run | str | Path,
    *,
    split: str = "test",
    overrides: Sequence[str] = (),
    dataset: Dataset | None = None,
    ranks: Ranks | None = None,
) -> dict[str, Any]:
    """Evaluate a run on the data of its recipe, with the references beside it.

    Args:
        run: a loaded run, or its folder.
        split: `valid` or `test`.
        overrides: of the sections `data` and `evaluation`, such as `data.root=../elsewhere`.
        dataset: use this instead of loading what the recipe names.
        ranks: processes that share the cases, called alike on each (`peftrec.launch.launched()`), of which the first
            writes; None for this one alone.
    Returns:
        `model`, members of an ensemble, `popularity`, `content_knn` as `Evaluation.to_json`; `split`; `leaks`; stored
        `parameters`, `training`; `same_data`: whether users, events and texts are those of the run.
    Raises:
        InputError: if the data hold other items than the run was trained on, or another process has failed.
    """
    ranks = Ranks() if ranks is None else ranks
    measured = measure_run(run, split=split, overrides=overrides, dataset=dataset, ranks=ranks)
    with all_or_none(ranks):
        if measured.belongs_to_run and ranks.is_first:
            with unless_read_only():
                write_users(measured.run.folder, split, measured.dataset, measured.found, measured.sampled)
    return measured.results()


@contextlib.contextmanager
def unless_read_only() -> Iterator[None]:
    """Leave what is inside where nothing may be written (a shared or published run): figures are given all the same.

    A full disk, or one that fails, is an error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def measure_run(
    run: Run | str | Path,
    *,
    split: str = "test",
    overrides: Sequence[str] = (),
    dataset: Dataset | None = None,
    full: bool = False,
    ranks: Ranks | None = None,
) -> Measured:
    """Measure a run and the references beside it; arguments and errors as of `evaluate`. Nothing is written.

    With `full`, what `detailing` needs is read too, and first: what is wrong with it is told before the long part.
    """
    if split not in SPLITS:
        raise RecipeError(f"split: '{split}' is not one of {', '.join(SPLITS)}")
    run = run if isinstance(run, Run) else load_run(run)
    recipe = recipe_for_evaluation(run.recipe, overrides)
    dataset = load_run_data(run.folder, recipe.data) if dataset is None else dataset
    _check_items(run, dataset)
    propensities = case_propensities(recipe, dataset)
    details = read_details(recipe, dataset, split) if full else None
    stored = json.loads((run.folder / METRICS).read_text(encoding="utf-8"))
    # Fits of the run serve only for the very data that they were made from.
    same_data = stored["data_sha256"] == dataset.content_hash(times=recipe.reads_times)
    references = fit_references(
        dataset,
        lambda: frozen_vectors(recipe, dataset.catalogue.texts),
        run.folder / PRIVATE / REFERENCE_FOLDER if same_data else None,
    )
    for model in run.models:
        tell_users(model, dataset)
    scores = {"model": run.scorer, **run.member_scores(), **of_users(references)}
    return Measured(
        run=run,
        recipe=recipe,
        dataset=dataset,
        split=split,
        references=references,
        scores=scores,
        found={name: measure(score, recipe, dataset, split, ranks) for name, score in scores.items()},
        sampled=sampled_evaluations(scores, recipe, dataset, split, ranks),
        propensities=propensities,
        same_data=same_data,
        own_rules=not any(override.startswith(_RULES) for override in overrides),
        stored=stored,
        details=details,
    )


def _check_items(run: Run, dataset: Dataset) -> None:
    """See that the catalogue is the one that the run was trained on, texts too."""
    if dataset.catalogue.ids != run.catalogue.ids:
        raise InputError(
            f"{run.folder}: was trained on {len(run.catalogue):,} items, the data of its recipe now has "
            f"{len(dataset.catalogue):,} and not the same ones in the same order; point data.root at the data it was "
            f"trained on"
        )
    texts = zip(dataset.catalogue.ids, dataset.catalogue.texts, run.catalogue.texts, strict=True)
    for item, now, trained in texts:
        if now != trained:
            raise InputError(
                f"{run.folder}: item '{item}' has the text {now[:60]!r} in the data of its recipe, but was trained "
                f"with {trained[:60]!r}; point data.root at the data it was trained on"
            )
