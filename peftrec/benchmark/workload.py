"""What a run computes, counted from its recipe and its data: no backbone is opened and nothing is trained.

Shapes: N catalogue, D width of item vectors.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.benchmark.suite import BackboneEntry
from peftrec.config import InputError
from peftrec.data import Dataset, load_dataset
from peftrec.losses.negatives import DrawnNegatives
from peftrec.models import UserEncoderConfig
from peftrec.recipe import Recipe, recipe_with

# Words and marks make some 1.3 pieces each; two marks stand around a text.
_PIECES_PER_WORD: Final = 1.3
_MARKS: Final = 2
# Widths of backbones are multiples of it; that of small ones stands where none is told.
_WIDTH_STEP: Final = 64
_USUAL_WIDTH: Final = 384


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DataCounts:
    """What the amount of work depends on.

    Args:
        dataset: cleaned and split.
        tokens_N: of the text of each item.
        events_N: training events of each item.
    """

    dataset: Dataset
    tokens_N: NDArray[np.float64]
    events_N: NDArray[np.int64]

    @property
    def num_events(self) -> int:
        """Return how many events train."""
        return int(self.events_N.sum())

    @property
    def num_trained(self) -> int:
        """Return how many items have training events."""
        return int((self.events_N > 0).sum())

    @property
    def num_cases(self) -> int:
        """Return how many validation cases are ranked after an epoch."""
        return len(self.dataset.split.valid.users)


def count_data(recipe: Recipe, places: Sequence[str]) -> DataCounts | None:
    """Read and count the data of a recipe; None where they are not here.

    Args:
        recipe: resolved.
        places: overrides that say where the data lie.
    """
    try:
        placed = recipe_with(recipe, [place for place in places if place.startswith("data.")])
        dataset = load_dataset(placed.data)
    except (InputError, OSError):
        return None
    pieces_N = _PIECES_PER_WORD * np.array([len(text.split()) for text in dataset.catalogue.texts]) + _MARKS
    return DataCounts(
        dataset=dataset,
        tokens_N=np.minimum(pieces_N, recipe.encoder.max_tokens),
        events_N=dataset.item_counts(),
    )


def run_operations(recipe: Recipe, size: BackboneEntry | None, counts: DataCounts) -> float | None:
    """Count the floating point operations of a run that trains to its last epoch.

    With P parameters, 2 P operations for each token or place forward, as many backward to what is before them, and as
    many again where P itself trains. Layers below all that trains run once over the catalogue, the others in every step
    and evaluation.

    Args:
        recipe: resolved.
        size: of its backbone.
        counts: of its data.
    Returns:
        None where texts are read and the size of the backbone is not told.
    """
    layers, width = 0.0 if size is None else size.parameters or 0.0, _width(recipe, size)
    catalogue_tokens = float(counts.tokens_N.sum())
    one_ranking = 2.0 * counts.num_cases * len(counts.tokens_N) * width
    if recipe.baseline is not None:
        encoding = 2 * layers * catalogue_tokens if recipe.baseline.needs_item_vectors else 0.0
        return encoding + recipe.baseline.fit_operations(counts.dataset) + 2 * one_ranking
    if recipe.encoder.uses_text and not layers:
        return None
    epochs, share, text = _num_epochs(recipe, counts), trained_share(recipe, size), 0.0
    if recipe.encoder.uses_text:
        there_and_back = 6 if recipe.method.kind == "full" else 4
        tokens = 2 * catalogue_tokens + there_and_back * _step_tokens(recipe, counts)
        text = layers * (2 * (1 - share) * catalogue_tokens + share * epochs * tokens)
    place = _user_parameters(recipe, width) + _num_candidates(recipe, counts) * width
    return text + 6 * epochs * counts.num_events * place + (epochs + 2) * one_ranking


def trained_share(recipe: Recipe, size: BackboneEntry | None) -> float:
    """Return the share of the layers that gradients go through; all where the suite does not tell their number."""
    reach, layers = reach_of(recipe.to_dict()), None if size is None else size.layers
    if reach == "none":
        return 0.0
    return 1.0 if reach == "all" or layers is None else min(1.0, float(reach) / layers)


def reach_of(recipe: Mapping[str, Any]) -> Any:
    """Return which layers gradients go through: `none`, `all`, or how many of the top.

    Args:
        recipe: as a mapping, as results have it too.
    """
    method = recipe["method"]
    if recipe["encoder"]["inputs"] == "ids" or method["kind"] in ("frozen", "side"):
        return "none"
    return method.get("layers", "all")


def _step_tokens(recipe: Recipe, counts: DataCounts) -> float:
    """Count the tokens that the steps of an epoch encode.

    Of S steps, an item with c events is expected in S (1 - (1 - 1 / S)^c); its text is read once in each.
    """
    training, tokens_N = recipe.training, counts.tokens_N
    steps = recipe.training.encodings if training.batch_users == "auto" else _num_steps(recipe, counts)
    if recipe.loss.candidates == "catalogue":
        return float(tokens_N[counts.events_N > 0].sum()) * math.ceil(steps / training.encoder_interval)
    expected_N = steps * (1 - (1 - 1 / max(steps, 1)) ** counts.events_N)
    drawn = steps * _num_drawn(recipe) * float(tokens_N.mean())
    return min(float(expected_N @ tokens_N) + drawn, steps * float(tokens_N.sum()))


def _num_epochs(recipe: Recipe, counts: DataCounts) -> float:
    epochs, most = recipe.training.num_epochs, recipe.training.max_steps
    if most is None or recipe.training.batch_users == "auto":
        return epochs
    return min(epochs, most * recipe.training.accumulation_steps / _num_steps(recipe, counts))


def _num_steps(recipe: Recipe, counts: DataCounts) -> int:
    assert recipe.training.batch_users != "auto"
    return math.ceil(len(counts.dataset.sequences) / recipe.training.batch_users)


def _num_drawn(recipe: Recipe) -> int:
    source = recipe.loss.source
    return source.num if isinstance(source, DrawnNegatives) else 0


def _num_candidates(recipe: Recipe, counts: DataCounts) -> float:
    """Count the items that each place of a history is compared with, at most."""
    if recipe.loss.candidates == "catalogue" or recipe.training.batch_users == "auto":
        return counts.num_trained
    events = recipe.training.batch_users * counts.num_events / len(counts.dataset.sequences)
    return min(counts.num_trained, events + _num_drawn(recipe))


def _user_parameters(recipe: Recipe, width: int) -> int:
    """Count the parameters that read histories, without making them."""
    with torch.device("meta"):
        module = recipe.user.build(next(filter(functools.partial(_fits, recipe.user), itertools.count(width))))
    return sum(parameter.numel() for parameter in module.parameters())


def _fits(user: UserEncoderConfig, width: int) -> bool:
    """Tell whether a width can be read: one that is guessed may be none that heads divide."""
    try:
        user.check_dim(width)
    except ValueError:
        return False
    return True


def _width(recipe: Recipe, size: BackboneEntry | None) -> int:
    """Return the width of item vectors: as the recipe sets it, or that which P = 12 layers D^2 gives the backbone."""
    if recipe.encoder.embedding_dim is not None:
        return recipe.encoder.embedding_dim
    if size is None or size.parameters is None or size.layers is None:
        return _USUAL_WIDTH
    width = math.sqrt(size.parameters / (12 * size.layers))
    return max(1, round(width / _WIDTH_STEP)) * _WIDTH_STEP
