"""Explanations of the items of one list.

Shapes: L events of a history, K items, N items of the catalogue, D width of vectors.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation import ProductScores, UserScores
from peftrec.explaining.explanation import Basis, Explanation, HistoryEvidence, WordAttribution
from peftrec.explaining.integrated_gradients import Subject, attribute_words
from peftrec.explaining.leave_one_out import leave_one_out
from peftrec.explaining.sentence import SentenceTemplates, sentence
from peftrec.models import CatalogueScores
from peftrec.models.residual_encoder import ResidualEncoder
from peftrec.retrieval import Asked


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """What explanations are made from: what scores a catalogue, and what its items are called.

    Args:
        scores: what scores the catalogue; words are found, and attention read, only of `CatalogueScores`.
        ids: of the N items.
        titles: for people.
        popularity_N: training events of each item, the scores of users of whom nothing is known.
        subject: an item's text, and what else its vector was made from.
        turn: what to hold while the text encoder works, where others use it too.
        answered: called when the model need know no more of the user: what follows asks for words alone.
    """

    scores: UserScores | ProductScores
    ids: Sequence[str]
    titles: Sequence[str]
    popularity_N: torch.Tensor
    subject: Callable[[int], Subject]
    turn: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    answered: Callable[[], None] = lambda: None


def explain(
    explained: Explained,
    asked: Asked,
    items_K: NDArray[np.int64],
    *,
    words: bool = False,
    num_evidence: int | None = None,
    templates: SentenceTemplates | None = None,
) -> list[Explanation]:
    """Explain the scores of items for one user.

    All histories that are needed, one more than there are events, are scored together, for all items at once.

    Args:
        explained: the catalogue and what scores it.
        asked: one user.
        items_K: indexes of the items; they need not be in a list, and may be in the history.
        words: also find the words of each item's text that carry it, which takes a pass forward and back for each step
            of an integral (see `attribute_words`). No word carries what is merely popular: there are none then.
        num_evidence: keep the events that change the score most, one way or the other; None keeps all.
        templates: of the sentences; None takes the English ones.
    Raises:
        InputError: if num_evidence is below 1, a score is NaN or infinite, or words cannot be found: of baselines,
            ensembles, models that read no texts, or without captum.
    """
    if num_evidence is not None and num_evidence < 1:
        raise InputError(f"num_evidence is {num_evidence}; it must be at least 1, or None for all events")
    basis = basis_of(asked)
    history = asked.histories_BL[0][asked.histories_BL[0] >= 0]
    if basis == "popularity":
        scores_K, changes_LK = explained.popularity_N.cpu().numpy()[items_K], np.zeros((0, len(items_K)))
    else:
        found = leave_one_out(explained.scores, asked, items_K, len(explained.popularity_N))
        scores_K, changes_LK = found.scores_K, found.changes_LK
    attention_L = attention_of(explained.scores, asked)
    attributions: Sequence[WordAttribution | None] = [None] * len(items_K)
    user_1D = _asking(explained, asked) if words and basis != "popularity" else None
    explained.answered()
    if user_1D is not None:
        attributions = _attributions(explained, user_1D, items_K)
    templates = SentenceTemplates() if templates is None else templates
    explanations = []
    for place, item in enumerate(items_K.tolist()):
        score, attribution = float(scores_K[place]), attributions[place]
        evidence = _evidence(explained, history, changes_LK[:, place], attention_L, num_evidence)
        of_text = None if attribution is None else attribution.words
        explanations.append(
            Explanation(
                item_id=explained.ids[item],
                title=explained.titles[item],
                score=score,
                basis=basis,
                evidence=evidence,
                words=of_text,
                word_attribution=attribution,
                sentence=sentence(templates, basis, score, evidence, of_text),
            )
        )
    return explanations


def basis_of(asked: Asked) -> Basis:
    """Return what the scores of one user stand on."""
    if (asked.histories_BL[0] >= 0).any():
        return "history"
    return "popularity" if asked.unknown_B[0] else "attributes"


@torch.no_grad()
def attention_of(scores: UserScores | ProductScores, asked: Asked) -> NDArray[np.float64] | None:
    """Return the attention weight of each event of one history (L,), NaN for those that are not read, or None.

    Args:
        scores: what scores the catalogue; others than a model's have none.
        asked: one user.
    """
    history, _, _, times = asked.given(np.zeros(1, dtype=np.int64))
    valid_L = history[0] >= 0
    if not isinstance(scores, CatalogueScores) or not valid_L.any():
        return None
    encoder = scores.model.user_encoder
    if not isinstance(encoder, ResidualEncoder):
        return None
    read = np.flatnonzero(valid_L)[-scores.max_history :]
    items_M = torch.from_numpy(history[0][read]).to(scores.vectors_ND.device)
    times_1M = None if times is None else torch.from_numpy(times[:, read]).to(items_M.device)
    weights_M = encoder.newest_attention(scores.vectors_ND[items_M][None], times_1M)
    if weights_M is None:
        return None
    attention_L = np.full(int(valid_L.sum()), np.nan)
    attention_L[len(attention_L) - len(read) :] = weights_M.double().cpu().numpy()
    return attention_L


def _evidence(
    explained: Explained,
    history: NDArray[np.int64],
    changes_L: NDArray[np.float64],
    attention_L: NDArray[np.float64] | None,
    num_evidence: int | None,
) -> tuple[HistoryEvidence, ...]:
    """Return the events that change a score most, those that raise it first; of equal ones the newer first."""
    newest_first = np.arange(len(changes_L))[::-1]
    kept = newest_first[np.argsort(-np.abs(changes_L[newest_first]), kind="stable")][:num_evidence]
    kept = np.sort(kept)[::-1]
    ordered = kept[np.argsort(-changes_L[kept], kind="stable")]
    return tuple(
        HistoryEvidence(
            item_id=explained.ids[history[event]],
            title=explained.titles[history[event]],
            event=event,
            change=float(changes_L[event]),
            attention=None if attention_L is None or np.isnan(attention_L[event]) else float(attention_L[event]),
        )
        for event in ordered.tolist()
    )


def _asking(explained: Explained, asked: Asked) -> torch.Tensor:
    """Return the vector of the user for whom words are looked for."""
    if not isinstance(explained.scores, CatalogueScores):
        raise InputError(
            "words can be found where one model gives the scores; this run is a baseline, which has no gradients, or "
            "an ensemble, whose scores depend on those of all other items"
        )
    return user_vector(explained.scores, asked)


def _attributions(explained: Explained, user_1D: torch.Tensor, items_K: NDArray[np.int64]) -> list[WordAttribution]:
    """Attribute the score of each item to the words of its text."""
    assert isinstance(explained.scores, CatalogueScores)
    model = explained.scores.model
    found: dict[int, WordAttribution] = {}
    for item in items_K.tolist():
        if item not in found:
            with explained.turn():
                found[item] = attribute_words(model, explained.subject(item), user_1D)
    return [found[item] for item in items_K.tolist()]


def user_vector(scores: CatalogueScores, asked: Asked) -> torch.Tensor:
    """Return the vector of one user, shape (1, D), without the scale."""
    history, users_B, events_BL, times_BL = asked.given(np.zeros(1, dtype=np.int64))
    histories = torch.from_numpy(history).to(scores.vectors_ND.device)
    return scores.model.newest_user_vectors(
        histories, scores.vectors_ND, users_B=users_B, events_BL=events_BL, times_BL=times_BL
    )
