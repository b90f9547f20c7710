"""Item vectors of a run as an index of FAISS.

Shapes: B users, N items of the catalogue, D width of vectors, X width in the index, K length of a list.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.evaluation import ProductScores
from peftrec.publishing.ensemble_folder import EnsembleRun
from peftrec.publishing.export.sample_history import SampleHistories
from peftrec.publishing.export.target import ExportTarget
from peftrec.publishing.run_folder import Run

INDEX, IDS = "items.faiss", "ids.json"
_NUM_HISTORIES = 256
_K = 10
# Links of an item, and candidates looked at when it is put in and when it is searched for.
_LINKS, _BUILD, _SEARCH = 32, 200, 128
# Two ways of summing a product differ by this share of the largest score; such items may change places.
_ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaissTarget(ExportTarget):
    """An index that is searched by inner product, and the ids of its rows.

    A learned logit of the items is one more dimension of theirs, for which the user vector gets a 1.

    Args:
        index: `flat` compares with every item and finds the exact lists; `hnsw` follows links between neighbours, which
            is faster with many items and finds nearly all; how many is measured.
    """

    kind: ClassVar[str] = "faiss"
    modules: ClassVar[tuple[str, ...]] = ("faiss",)
    packages: ClassVar[tuple[str, ...]] = ("torch", "numpy", "faiss-cpu")

    index: Literal["flat", "hnsw"] = "flat"

    def check(self, run: Run) -> None:
        if isinstance(run, EnsembleRun):
            raise InputError(f"{run.folder}: is an ensemble; export its members, which lie in {run.folder / 'members'}")
        if not isinstance(run.scorer, ProductScores):
            kind = run.recipe.scorer.kind if run.recipe.baseline is None else run.recipe.baseline.kind
            raise InputError(
                f"{run.folder}: '{kind}' scores items otherwise than by a product of vectors, so that no index holds it"
            )
        assert run.model is None or run.model.second_stage is None

    def write(self, run: Run, folder: Path) -> dict[str, Any]:
        import faiss

        scorer = run.scorer
        assert isinstance(scorer, ProductScores)
        vectors_ND, bias_N = scorer.vectors_ND.cpu().float(), scorer.bias_N.cpu().float()
        has_bias = bool(bias_N.any())
        rows_NX = torch.cat([vectors_ND, bias_N[:, None]], dim=1) if has_bias else vectors_ND
        index = _build(self.index, rows_NX.contiguous().numpy())
        faiss.write_index(index, str(folder / INDEX))
        text = json.dumps(list(run.catalogue.ids), ensure_ascii=False, indent=0)
        (folder / IDS).write_text(text + "\n", encoding="utf-8")
        num_queries, recall = _recall(folder, run, scorer, has_bias=has_bias)
        if self.index == "flat" and recall < 1:
            raise InputError(
                f"{run.folder}: the index that was written finds {recall:.4f} of the run's own lists, not all; nothing "
                f"was kept"
            )
        return {
            "files": {"index": INDEX, "ids": IDS},
            "num_items": len(vectors_ND),
            "dim": rows_NX.shape[1],
            "metric": "inner product",
            "has_bias": has_bias,
            "query": "user vector times the scale" + ", and 1.0 behind it" * has_bias,
            "scale": 1.0 if run.model is None else float(run.model.scale().detach()),
            "settings": {} if self.index == "flat" else {"M": _LINKS, "efConstruction": _BUILD, "efSearch": _SEARCH},
            "check": {"num_queries": num_queries, "k": min(_K, len(vectors_ND)), "recall": recall},
        }

    def describe(self, report: Mapping[str, Any]) -> list[str]:
        check = report["check"]
        return [
            f"{report['num_items']:,} items of {report['dim']} numbers, inner product ({report['options']['index']})",
            f"recall@{check['k']} against the run's exact lists: {check['recall']:.4f} over {check['num_queries']} "
            f"made-up histories",
            f"search with: {report['query']}",
        ]


def _build(kind: str, rows_NX: NDArray[np.float32]) -> Any:
    import faiss

    index: Any
    if kind == "flat":
        index = faiss.IndexFlatIP(rows_NX.shape[1])
    else:
        index = faiss.IndexHNSWFlat(rows_NX.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD, _SEARCH
    index.add(rows_NX)
    return index


@torch.no_grad()
def _recall(folder: Path, run: Run, scorer: ProductScores, *, has_bias: bool) -> tuple[int, float]:
    """Return the number of searches in the index as it lies on the disk, and the share of the best items found.

    An item counts that scores at least as high as the last of the exact list, up to rounding.
    """
    import faiss

    index, ids = faiss.read_index(str(folder / INDEX)), json.loads((folder / IDS).read_text(encoding="utf-8"))
    if ids != list(run.catalogue.ids) or index.ntotal != len(ids):
        raise InputError(f"{run.folder}: the ids that were written are not those of the run; nothing was kept")
    sample = SampleHistories.draw(_NUM_HISTORIES, len(ids), scorer.max_history)
    users_BD = scorer.user_vectors(sample.items_BL, None, None, sample.times_BL).float()
    exact_BN = (users_BD @ scorer.vectors_ND.float().T + scorer.bias_N).cpu()
    users_BD = users_BD.cpu()
    queries_BX = torch.cat([users_BD, torch.ones(len(users_BD), 1)], dim=1) if has_bias else users_BD
    k = min(_K, len(ids))
    found_BK = torch.from_numpy(index.search(queries_BX.contiguous().numpy(), k)[1])
    last_B1 = exact_BN.topk(k).values[:, -1:]
    scores_BK = exact_BN.gather(1, found_BK.clamp(min=0)).masked_fill(found_BK < 0, -torch.inf)
    hits_BK = scores_BK >= last_B1 - _ROUNDING * float(exact_BN.abs().max())
    return len(queries_BX), float(hits_BK.double().mean())
