"""An index finds the run's own lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError
from peftrec.publishing import load_run
from peftrec.publishing.export import faiss_folder
from peftrec.recommender import Recommender

faiss = pytest.importorskip("faiss")
Export = Callable[..., dict[str, Any]]
IDS = ("encoder.inputs=ids", "encoder.embedding_dim=16")
BIAS = ("encoder.inputs=text+ids", "encoder.embedding_dim=16", "encoder.item_bias=true")


@pytest.mark.parametrize("index", ["flat", "hnsw"])
@pytest.mark.parametrize(
    "overrides", [IDS, BIAS, ("baseline={kind: content_knn}",)], ids=["ids", "bias", "content_knn"]
)
def test_it_finds_what_the_run_recommends(
    overrides: tuple[str, ...], index: str, runs: Callable[..., Path], export: Export, tmp_path: Path
) -> None:
    folder = runs(*overrides)
    report = export(folder, tmp_path / "out", "faiss", index=index)
    assert report["check"]["recall"] == 1.0  # forty items: every path of the graph is walked
    assert report["options"] == {"index": index}
    assert report["has_bias"] == (overrides == BIAS)
    run = load_run(folder)
    history = ["wine0", "tea3"]
    row = np.array([run.catalogue.index(history)])
    user: Any = run.scorer.user_vectors(row, None, None, None)  # type: ignore[union-attr]
    query = torch.cat([user, torch.ones(1, 1)], dim=1) if report["has_bias"] else user
    stored = faiss.read_index(str(tmp_path / "out" / "items.faiss"))
    ids = json.loads((tmp_path / "out" / "ids.json").read_text())
    found = [ids[place] for place in stored.search(query.float().numpy(), 12)[1][0] if ids[place] not in history][:10]
    expected = [entry.item_id for entry in Recommender(run).recommend(history, k=10)]
    assert found == expected


def test_what_is_no_product_is_refused(runs: Callable[..., Path], export: Export, tmp_path: Path) -> None:
    for overrides, kind in (
        (("baseline={kind: popularity}",), "popularity"),
        ((*IDS, "scorer={kind: mlp, num_candidates: 20}"), "mlp"),
    ):
        with pytest.raises(InputError, match=f"'{kind}' scores items otherwise than by a product of vectors"):
            export(runs(*overrides), tmp_path / "out", "faiss")
    assert not list(tmp_path.iterdir())


def test_an_index_that_misses_items_is_not_kept_and_a_bad_one_is_told(
    runs: Callable[..., Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = faiss_folder._build

    def shuffled(kind: str, rows: Any) -> Any:
        return build(kind, np.ascontiguousarray(rows[::-1]))

    monkeypatch.setattr(faiss_folder, "_build", shuffled)
    with pytest.raises(InputError, match=r"finds 0\.\d+ of the run's own lists, not all"):
        export(runs(*IDS), tmp_path / "out", "faiss")
    assert not list(tmp_path.iterdir())
    assert export(runs(*IDS), tmp_path / "out", "faiss", index="hnsw")["check"]["recall"] < 0.9
