"""A model with the weights of a run, for its items and those that have come since.

Shapes: N items, D width of item vectors, H width of text vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from peftrec.build import Built, build_model, seed_all, tell_users
from peftrec.config import InputError
from peftrec.data import Dataset
from peftrec.models import RecommenderModel
from peftrec.recipe import Recipe

_BY_ITEM = ("item_encoder.id_vectors", "item_encoder.bias")
_HAS_ID = "item_encoder.has_id"


def warm_start(trained: RecommenderModel, recipe: Recipe, dataset: Dataset, say: Callable[[str], None]) -> Built:
    """Build the model of a recipe for a grown catalogue, and give it all that a run has learned.

    Scores of known items are those of the run, to the bit where texts are encoded alike. Where items have vectors of
    their own beside their texts, those that have now got their first training event get one that starts at zero, so
    that they too start where the run would have put them; others have none. Where there are no texts, a vector starts
    at random, as in training. The whitening stays that of the run: what its head has learned is on those axes.

    Args:
        trained: the model of the run.
        recipe: of the update.
        dataset: extended; the known items come first.
        say: is handed one line at a time.
    Returns:
        What `build` does.
    Raises:
        InputError: if the method has shared out its ranks in a training that is over.
    """
    _refuse_ended(trained)
    seed_all(recipe.training.seed)
    state = trained.trained_state()
    has_id_N = torch.from_numpy(dataset.item_counts() > 0)
    if _HAS_ID in state:
        known_N = state[_HAS_ID].cpu()
        has_id_N[: len(known_N)] |= known_N
    model = build_model(recipe.here(), dataset.catalogue.texts, has_id_N, None, say)
    tell_users(model, dataset)
    base_vectors_NH = None
    if model.catalogue_text is not None:
        model.catalogue_text.store_trunk()
        base_vectors_NH = model.catalogue_text.base_vectors()  # before the adapter is loaded
    if _HAS_ID in state:
        _grow(state, model, has_id_N)
    model.load_trained_state(state)
    return Built(dataset, model, base_vectors_NH)


def _refuse_ended(trained: RecommenderModel) -> None:
    for encoder in trained.text_encoders().values():
        if encoder.method_config.kind == "adalora":
            raise InputError(
                "method.kind: adalora shares out its ranks over one training, which is over; such a run cannot be "
                "updated: train it anew on all data"
            )


def _grow(state: dict[str, torch.Tensor], model: RecommenderModel, has_id_N: torch.Tensor) -> None:
    """Give what belongs to single items a row for each item of the model; rows that were never trained begin."""
    own = model.id_state()
    known_N = state[_HAS_ID].to(has_id_N.device)
    trained_N = torch.zeros_like(has_id_N)
    trained_N[: len(known_N)] = known_N
    num_known = len(known_N)
    for name in _BY_ITEM:
        if name not in state:
            continue
        begins = torch.zeros_like(own[name])
        if name == _BY_ITEM[0] and model.catalogue_text is None:
            begins.copy_(own[name])
        begins[:num_known] = torch.where(
            _as_rows(trained_N[:num_known], state[name]).to(state[name].device), state[name], begins[:num_known]
        )
        state[name] = begins
    state[_HAS_ID] = has_id_N.to(state[_HAS_ID].device)


def _as_rows(which_N: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return which_N if like.dim() == 1 else which_N[:, None]
