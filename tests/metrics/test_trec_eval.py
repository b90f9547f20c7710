"""Rank metrics against trec_eval, through ir-measures."""

from __future__ import annotations

import numpy as np
import pytest

from peftrec.metrics import MISS, RANK_METRICS

ir_measures = pytest.importorskip("ir_measures")
pytest.importorskip("pytrec_eval")

NUM_USERS, NUM_RANKED, NUM_CATALOGUE = 60, 40, 60


@pytest.fixture(scope="module")
def rankings() -> tuple[np.ndarray, np.ndarray, dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Rankings without ties, of which up to twelve items are relevant, some of them not ranked."""
    generator = np.random.default_rng(5)
    lists = np.stack([generator.permutation(NUM_CATALOGUE)[:NUM_RANKED] for _ in range(NUM_USERS)])
    ranks, relevant, runs = np.zeros((NUM_USERS, 12), dtype=np.int64), {}, {}
    for user, ranked in enumerate(lists):
        chosen = generator.choice(NUM_CATALOGUE, size=generator.integers(1, 13), replace=False)
        places = {int(item): place for place, item in enumerate(ranked, start=1)}
        ranks[user, : len(chosen)] = [places.get(int(item), MISS) for item in chosen]
        relevant[f"u{user}"] = {f"i{item}": 1 for item in chosen}
        # trec_eval reads scores in single precision, in which these are apart.
        runs[f"u{user}"] = {f"i{item}": float(NUM_RANKED - place) for place, item in enumerate(ranked)}
    assert (ranks == MISS).any()
    assert ((ranks > 10) & (ranks != MISS)).any()
    return lists, ranks, relevant, runs


@pytest.mark.parametrize("k", [1, 3, 10, 25])
@pytest.mark.parametrize(
    ("name", "measure"),
    [("hr", "Success"), ("recall", "R"), ("precision", "P"), ("ndcg", "nDCG"), ("map", "AP"), ("mrr", "RR")],
)
def test_trec_eval_agrees(
    rankings: tuple[np.ndarray, np.ndarray, dict[str, dict[str, int]], dict[str, dict[str, float]]],
    name: str,
    measure: str,
    k: int,
) -> None:
    _, ranks, relevant, runs = rankings
    if name == "mrr":  # recip_rank has no cutoff: it is handed what a cutoff leaves
        runs = {user: dict(list(run.items())[:k]) for user, run in runs.items()}
        wanted = ir_measures.RR
    else:
        wanted = getattr(ir_measures, measure) @ k
    provider = ir_measures.providers.registry["pytrec_eval"]
    found = {metric.query_id: metric.value for metric in provider.iter_calc([wanted], relevant, runs)}
    theirs = np.array([found[f"u{user}"] for user in range(NUM_USERS)])
    np.testing.assert_allclose(RANK_METRICS[name](ranks, k), theirs, rtol=0, atol=1e-12)
    assert len(np.unique(theirs)) > 1


def test_every_rank_metric_is_compared() -> None:
    marks = {mark.args[0]: mark.args[1] for mark in test_trec_eval_agrees.pytestmark}
    assert {name for name, _ in marks[("name", "measure")]} == set(RANK_METRICS)
