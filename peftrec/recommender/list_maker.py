"""Lists for users, from the sources that the recipe names.

Shapes: B users, L places of a history, N rows, K length of a list, D width of vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation import ProductScores, UserScores, users_at_once
from peftrec.evaluation.product import batches_by_length
from peftrec.recommender.stock_view import StockView
from peftrec.retrieval import Allowed, Asked, Candidate, RetrievalConfig, fuse, top_items

_Ints = NDArray[np.int64]
_Lists = list[tuple[list[int], list[float]]]

_USERS_AT_ONCE: Final = 512
# The newest events that content goes by, and the weight of one over that of the next newer one, as in content_knn.
_NUM_RECENT: Final = 8
_DECAY: Final = 0.7
_CANDIDATES_AN_ENTRY: Final = 10


@dataclasses.dataclass(frozen=True, eq=False)
class ListMaker:
    """Makes lists of the items of one moment.

    Args:
        view: the items.
        scorer: of its rows.
        config: which sources, and how they are fused.
    """

    view: StockView
    scorer: UserScores | ProductScores
    config: RetrievalConfig

    @torch.no_grad()
    def lists(self, asked: Asked, k: int, allowed: Allowed | None, *, exclude_history: bool) -> list[list[Candidate]]:
        """Return the best rows for each user.

        Args:
            asked: users, whose histories are rows of the view.
            k: length of the lists, from 1.
            allowed: rows that may come back; None: all.
            exclude_history: leave out the rows of each history.
        Raises:
            InputError: if a score is NaN.
        """
        found: list[list[Candidate]] = [[] for _ in asked.histories_BL]
        unknown, told = np.flatnonzero(asked.unknown_B), np.flatnonzero(~asked.unknown_B)
        if len(unknown):
            rows, scores = self._popular(k, allowed)
            for user in unknown.tolist():
                found[user] = _candidates(rows, scores, "popularity")
        weights = self.config.counted
        if len(weights) == 1:
            ((name, _),) = weights.items()
            for user, (rows, scores) in self._of_source(name, asked, told, k, allowed, exclude_history):
                found[user] = _candidates(rows, scores, name)
            return found
        num = max(self.config.candidates, _CANDIDATES_AN_ENTRY * k)
        lists: list[dict[str, tuple[list[int], list[float]]]] = [{} for _ in found]
        for name in weights:
            for user, one in self._of_source(name, asked, told, num, allowed, exclude_history):
                lists[user][name] = one
        for user in told.tolist():
            found[user] = fuse(lists[user], weights, self.config.fusion, k)
        return found

    @torch.no_grad()
    def similar(self, row: int, k: int, allowed: Allowed | None) -> list[Candidate]:
        """Return the rows whose vectors have the largest cosine with that of a row, without the row itself."""
        if self.view.index is None:
            raise InputError("this run has no vectors of items, so that it cannot tell which are similar")
        vector_D = self.view.index.vectors_ND[row]
        ((rows, scores),) = self._nearest(vector_D[None], k, allowed, np.array([[row]]))
        return _candidates(rows, scores, "content")

    def _of_source(
        self, name: str, asked: Asked, told: _Ints, k: int, allowed: Allowed | None, exclude_history: bool
    ) -> list[tuple[int, tuple[list[int], list[float]]]]:
        """Return users of whom something is known, each with a source's rows and scores, best first."""
        find: Callable[[Asked, _Ints, int, Allowed | None, bool], _Lists]
        find = {"model": self._by_model, "content": self._by_content, "popularity": self._by_popularity}[name]
        if len(told) == 1:
            batches = [np.zeros(1, dtype=np.int64)]
        else:
            lengths = (asked.histories_BL[told] >= 0).sum(axis=1)
            most = users_at_once(_USERS_AT_ONCE, self.view.num_rows)
            if isinstance(self.scorer, ProductScores):
                lengths, most = np.minimum(lengths, self.scorer.max_history), _USERS_AT_ONCE
            batches = list(batches_by_length(lengths, most))
        found = []
        for places in batches:
            users = told[places]
            lists = find(asked, users, k, allowed, exclude_history)
            found += list(zip(users.tolist(), lists, strict=True))
        return found

    def _by_model(self, asked: Asked, users: _Ints, k: int, allowed: Allowed | None, exclude_history: bool) -> _Lists:
        given = asked.given(users)
        if self.view.index is not None and isinstance(self.scorer, ProductScores):
            users_BD = self.scorer.user_vectors(*given)
            excluded = given[0] if exclude_history else None
            return _plain(*self.view.index.search(users_BD, k, allowed=allowed, excluded_BL=excluded))
        assert not isinstance(self.scorer, ProductScores)
        scores_BN = self.scorer(*given)
        if allowed is not None:
            scores_BN = scores_BN.masked_fill(allowed.refused_N.to(scores_BN.device), -torch.inf)
        return _plain(*top_items(scores_BN, k, exclude_BL=torch.from_numpy(given[0]) if exclude_history else None))

    def _by_content(self, asked: Asked, users: _Ints, k: int, allowed: Allowed | None, exclude_history: bool) -> _Lists:
        """By the cosine with the sum over the newest events of 0.7^k times the item's vector, of unit length."""
        assert self.view.index is not None
        assert self.view.lengths_N is not None
        histories_BL = asked.given(users)[0]
        newest_BL = torch.from_numpy(histories_BL[:, -_NUM_RECENT:].copy()).to(self.view.lengths_N.device)
        age_L = torch.arange(newest_BL.shape[1] - 1, -1, -1, device=newest_BL.device)
        places_BL = newest_BL.clamp(min=0)
        weights_BL = _DECAY**age_L * (newest_BL >= 0) / self.view.lengths_N[places_BL].clamp(min=1e-12)
        users_BD = (self.view.index.vectors_ND[places_BL] * weights_BL[..., None]).sum(dim=1)
        found = self._nearest(users_BD, k, allowed, histories_BL if exclude_history else None)
        # Of whom only attributes are known there is nothing to compare with.
        return [one if (newest >= 0).any() else ([], []) for one, newest in zip(found, histories_BL, strict=True)]

    def _by_popularity(
        self, asked: Asked, users: _Ints, k: int, allowed: Allowed | None, exclude_history: bool
    ) -> _Lists:
        if not exclude_history:
            return [self._popular(k, allowed)] * len(users)
        histories_BL = asked.given(users)[0]
        rows, scores = self._popular(k + histories_BL.shape[1], allowed)
        lists = []
        for history in histories_BL.tolist():
            had = set(history)
            kept = [pair for pair in zip(rows, scores, strict=True) if pair[0] not in had][:k]
            lists.append(([row for row, _ in kept], [score for _, score in kept]))
        return lists

    def _popular(self, k: int, allowed: Allowed | None) -> tuple[list[int], list[float]]:
        scores_N = self.view.popularity_N
        if allowed is not None:
            scores_N = scores_N.masked_fill(allowed.refused_N, -torch.inf)
        return _plain(*top_items(scores_N[None], k))[0]

    def _nearest(self, queries_BD: torch.Tensor, k: int, allowed: Allowed | None, excluded_BL: _Ints | None) -> _Lists:
        """Return the rows of the largest cosine with some vectors; through the index where that orders them so."""
        index, lengths_N = self.view.index, self.view.lengths_N
        assert index is not None
        assert lengths_N is not None
        queries_BD = torch.nn.functional.normalize(queries_BD, dim=1)
        if self.view.is_unit:
            return _plain(*index.search(queries_BD, k, allowed=allowed, excluded_BL=excluded_BL))
        lists: _Lists = []
        most = users_at_once(_USERS_AT_ONCE, self.view.num_rows)
        for start in range(0, len(queries_BD), most):
            scores_BN = queries_BD[start : start + most] @ index.vectors_ND.T / lengths_N.clamp(min=1e-12)
            if allowed is not None:
                scores_BN.masked_fill_(allowed.refused_N, -torch.inf)
            left_out = None if excluded_BL is None else torch.from_numpy(excluded_BL[start : start + most])
            lists += _plain(*top_items(scores_BN, k, exclude_BL=left_out))
        return lists


def _plain(items_BK: torch.Tensor, scores_BK: torch.Tensor) -> _Lists:
    """Return rows and scores of each user, without the places that nothing fills."""
    lists = []
    for items, scores in zip(items_BK.tolist(), scores_BK.tolist(), strict=True):
        num = len(items) - items.count(-1)
        lists.append((items[:num], scores[:num]))
    return lists


def _candidates(rows: list[int], scores: list[float], source: str) -> list[Candidate]:
    return [Candidate(row, score, source) for row, score in zip(rows, scores, strict=True)]
