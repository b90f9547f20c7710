"""The index that walks a graph of neighbours: FAISS HNSW, for catalogues that are too large to read for every list.

Shapes: B users, L places of a history, N rows, C rows that are added, G rows in the graph, K length of a list, D width.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError, Range
from peftrec.retrieval.allowed import Allowed
from peftrec.retrieval.exact import top_items
from peftrec.retrieval.exact_index import ExactIndex, ExactView
from peftrec.retrieval.item_index import IndexConfig

_Ints = NDArray[np.int64]

# Where fewer rows than this share are allowed, reading them all is as fast as walking past the others, and exact.
_FEW: Final = 0.05
# So do lists that take more than this share of the rows.
_MOST_OF_ALL: Final = 0.25
# Rows beside the graph are read one by one. Above so few, each change puts some of them into it, so that none has long
# to wait for its end; above so many, all of them.
_FEW_WAITING: Final = 256
_MOVED: Final = 32
_MANY_WAITING: Final = 4096
# Rows that are put into the graph at once: searches wait as long.
_AT_ONCE: Final = 8
_USERS_AT_ONCE: Final = 64
# Squares of lengths that count as equal; and how far those of rows that come later may exceed the largest.
_EQUAL_LENGTHS: Final = 1e-3
_ROOM: Final = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class HnswConfig(IndexConfig):
    """A list is found by walking a graph of neighbours: approximate, its cost hardly grows with the catalogue.

    Rows are compared as (bias, vector) with a last coordinate that makes all of them equally long, so that the nearest
    in the graph are those of the largest product; the rows found are scored exactly.

    Args:
        m: neighbours of a row in the graph; twice as many in its lowest layer.
        ef_construction: candidates that are looked at when a row is put in.
        ef_search: candidates that are looked at in a search; more find more and take longer.
    Source:
        Malkov and Yashunin (2018), Efficient and robust approximate nearest neighbor search using Hierarchical
        Navigable Small World graphs; the coordinate is of Bachrach et al. (2014), Speeding Up the Xbox Recommender
        System Using a Euclidean Transformation for Inner-Product Spaces.
    """

    kind: ClassVar[str] = "hnsw"
    m: Annotated[int, Range(ge=2, le=256)] = 32
    ef_construction: Annotated[int, Range(ge=1)] = 100
    ef_search: Annotated[int, Range(ge=1)] = 128

    def build(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> HnswIndex:
        """Make an index of these rows; a million take minutes.

        Raises:
            InputError: if faiss is not installed.
        """
        return HnswIndex(vectors_ND, bias_N, self)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError("retrieval.index.kind: hnsw needs faiss; pip install 'peftrec[index]'") from None
    return faiss


class Graph:
    """The graph, in which rows are searched and put in by turns: FAISS does not do both at once.

    Args:
        vectors_ND: rows to begin with.
        bias_N: of each.
        config: of the index.
    """

    def __init__(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor, config: HnswConfig) -> None:
        self._faiss, self._config = _faiss(), config
        self._turn = threading.Lock()
        self._has_bias = bool(bias_N.any())
        self._square = 0.0
        squares_N = self._squares(vectors_ND, bias_N)
        longest = float(squares_N.max()) if len(squares_N) else 1.0
        # Unit vectors need no coordinate more.
        self._longest = longest * (1 + _EQUAL_LENGTHS)
        self._shortest = longest * (1 - _EQUAL_LENGTHS)
        if len(squares_N) and float(squares_N.min()) < self._shortest:
            self._square = self._longest = longest * _ROOM
            self._shortest = 0.0
        width = vectors_ND.shape[1] + self._has_bias + bool(self._square)
        self._graph = self._faiss.IndexHNSWFlat(width, config.m)
        self._graph.hnsw.efConstruction = config.ef_construction
        self._faiss.omp_set_num_threads(torch.get_num_threads())
        self._graph.add(self._rows(vectors_ND, bias_N))

    def __len__(self) -> int:
        return int(self._graph.ntotal)

    def takes(self, vectors_CD: torch.Tensor, bias_C: torch.Tensor) -> bool:
        """Return whether rows can be compared in it: their biases and lengths are like those at the beginning."""
        if not self._has_bias and bool(bias_C.any()):
            return False
        squares_C = self._squares(vectors_CD, bias_C)
        return bool((squares_C <= self._longest).all()) and bool((squares_C >= self._shortest).all())

    def add(self, vectors_CD: torch.Tensor, bias_C: torch.Tensor) -> None:
        """Put rows at the end, a few at a time, so that searches come in between."""
        rows = self._rows(vectors_CD, bias_C)
        for start in range(0, len(rows), _AT_ONCE):
            with self._turn:
                self._graph.add(rows[start : start + _AT_ONCE])

    def search(self, users_BD: torch.Tensor, num: int, num_rows: int, allowed: Allowed | None) -> _Ints:
        """Return those of the first `num_rows` that seem best for each user, -1 where there are no more: (B, num)."""
        queries = users_BD.cpu().float()
        if self._has_bias:
            queries = torch.cat([queries.new_ones(len(queries), 1), queries], dim=1)
        if self._square:
            queries = torch.cat([queries, queries.new_zeros(len(queries), 1)], dim=1)
        # Without this, how far a query lies from all rows would outweigh which of them lies nearest.
        queries = queries / torch.linalg.vector_norm(queries, dim=1, keepdim=True).clamp(min=1e-30)
        wide = max(self._config.ef_search, num)
        bits = None if allowed is None else allowed.bits
        chosen = None if bits is None else self._faiss.IDSelectorBitmap(len(bits), self._faiss.swig_ptr(bits))
        with self._turn:
            # Rows that came after those that are asked for would take the places of some of them.
            if num_rows < len(self):
                first = self._faiss.IDSelectorRange(0, num_rows)
                chosen = first if chosen is None else self._faiss.IDSelectorAnd(first, chosen)
            settings = self._faiss.SearchParametersHNSW(sel=chosen, efSearch=wide)
            _, rows = self._graph.search(np.ascontiguousarray(queries.numpy()), num, params=settings)
        found: _Ints = rows
        return found

    def _squares(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> torch.Tensor:
        return vectors_ND.float().square().sum(dim=1) + bias_N.float().square()

    def _rows(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> NDArray[np.float32]:
        parts = [vectors_ND.float()]
        if self._has_bias:
            parts.insert(0, bias_N.float()[:, None])
        if self._square:
            rest_N = (self._square - self._squares(vectors_ND, bias_N)).clamp(min=0).sqrt()
            parts.append(rest_N[:, None])
        return np.ascontiguousarray(torch.cat(parts, dim=1).cpu().numpy())


@dataclasses.dataclass(frozen=True, eq=False)
class HnswView(ExactView):
    """See `IndexView`.

    Args:
        graph: over the first rows; it may have grown since.
        num_in_graph: rows of it that this view takes from the graph, G; those after them are read one by one.
    """

    graph: Graph
    num_in_graph: int

    @torch.no_grad()
    def search(
        self, users_BD: torch.Tensor, k: int, *, allowed: Allowed | None = None, excluded_BL: _Ints | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Walk the graph, and read the rows beside it; all of them where few are allowed. See `IndexView`."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if len(users_BD) > _USERS_AT_ONCE:
            return self._search_parts(users_BD, k, allowed, excluded_BL)
        allowed = self.live if allowed is None else allowed
        length = min(k, len(self.vectors_ND))
        longest = 0 if excluded_BL is None else int((excluded_BL >= 0).sum(axis=1).max(initial=0))
        num = length + longest
        count = len(self.vectors_ND) if allowed is None else allowed.count
        if count < _FEW * len(self.vectors_ND) or num > _MOST_OF_ALL * count or not bool(users_BD.isfinite().all()):
            return super().search(users_BD, k, allowed=allowed, excluded_BL=excluded_BL)
        found_BC = self._candidates(users_BD, num, allowed)
        if excluded_BL is not None:
            for candidates, excluded in zip(found_BC, excluded_BL, strict=True):
                candidates[np.isin(candidates, excluded)] = -1
        items_BK, scores_BK = self._scored(users_BD, found_BC, length)
        # A walk may end early, where what is allowed lies apart: then all rows are read, for those users.
        short = (items_BK[:, -1] < 0).nonzero()[:, 0]
        if len(short):
            rest = None if excluded_BL is None else excluded_BL[short.cpu().numpy()]
            again = super().search(users_BD[short], k, allowed=allowed, excluded_BL=rest)
            items_BK[short], scores_BK[short] = again
        return items_BK, scores_BK

    def _search_parts(
        self, users_BD: torch.Tensor, k: int, allowed: Allowed | None, excluded_BL: _Ints | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Search for some users at a time: the vectors of their candidates are held at once."""
        found = []
        for start in range(0, len(users_BD), _USERS_AT_ONCE):
            part = slice(start, start + _USERS_AT_ONCE)
            excluded = None if excluded_BL is None else excluded_BL[part]
            found.append(self.search(users_BD[part], k, allowed=allowed, excluded_BL=excluded))
        items, scores = zip(*found, strict=True)
        return torch.cat(items), torch.cat(scores)

    def _candidates(self, users_BD: torch.Tensor, num: int, allowed: Allowed | None) -> _Ints:
        """Return rows that may be best, of the graph and beside it, -1 for none."""
        in_graph_BC = self.graph.search(users_BD, num, self.num_in_graph, allowed)
        if self.num_in_graph == len(self.vectors_ND):
            return in_graph_BC
        beside = np.arange(self.num_in_graph, len(self.vectors_ND))
        if allowed is not None:
            beside = beside[allowed.mask_N[self.num_in_graph :].cpu().numpy()]
        return np.concatenate([in_graph_BC, np.broadcast_to(beside, (len(users_BD), len(beside)))], axis=1)

    def _scored(self, users_BD: torch.Tensor, found_BC: _Ints, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Score candidates exactly and put them in order; of equal scores the lower row is first."""
        found_BC = np.sort(found_BC, axis=1)
        rows_BC = torch.from_numpy(found_BC).to(users_BD.device)
        vectors_BCD = self.vectors_ND[rows_BC.clamp(min=0)]
        scores_BC = self.bias_N[rows_BC.clamp(min=0)] + (vectors_BCD @ users_BD[..., None])[..., 0]
        scores_BC = torch.where(rows_BC >= 0, scores_BC, -torch.inf)
        places_BK, scores_BK = top_items(scores_BC, length)
        items_BK = torch.where(places_BK >= 0, rows_BC.gather(1, places_BK.clamp(min=0)), -1)
        if items_BK.shape[1] < length:
            short = length - items_BK.shape[1]
            items_BK = torch.nn.functional.pad(items_BK, (0, short), value=-1)
            scores_BK = torch.nn.functional.pad(scores_BK, (0, short), value=-torch.inf)
        return items_BK, scores_BK


class HnswIndex(ExactIndex):
    """See `ItemIndex`; new rows are read one by one until there are many, and are then put into the graph.

    Rows that cannot be compared in the graph (a bias where there was none, vectors much longer than all at the
    beginning) are read one by one for good, and so are those after them.

    Args:
        vectors_ND: rows to begin with.
        bias_N: of each.
        config: of the index.
    """

    kind: ClassVar[str] = "hnsw"

    def __init__(self, vectors_ND: torch.Tensor, bias_N: torch.Tensor, config: HnswConfig) -> None:
        self._config = config
        self._graph, self._num_in_graph = Graph(vectors_ND, bias_N, config), len(vectors_ND)
        self._growing = threading.Lock()
        super().__init__(vectors_ND, bias_N)

    @property
    def view(self) -> HnswView:
        """The index as it is now."""
        view = self._view
        assert isinstance(view, HnswView)
        return view

    def describe(self) -> dict[str, Any]:
        """Return the kind, its settings and its size, for JSON."""
        return super().describe() | dataclasses.asdict(self._config) | {"rows_in_graph": self._num_in_graph}

    def _make_view(self) -> HnswView:
        plain = super()._make_view()
        parts = (plain.vectors_ND, plain.bias_N, plain.live, plain.has_bias)
        return HnswView(*parts, self._graph, self._num_in_graph)

    def settle(self) -> None:
        """Put waiting rows into the graph, some at a time; those who search see them all the while."""
        with self._growing:
            view = self.view
            waiting = len(view.vectors_ND) - self._num_in_graph
            if waiting <= _FEW_WAITING:
                return
            first = self._num_in_graph
            stop = first + (waiting if waiting > _MANY_WAITING else min(waiting, _MOVED))
            if not self._graph.takes(view.vectors_ND[first:stop], view.bias_N[first:stop]):
                return
            self._graph.add(view.vectors_ND[first:stop], view.bias_N[first:stop])
            with self._writing:
                self._num_in_graph = stop
                self._view = self._make_view()
