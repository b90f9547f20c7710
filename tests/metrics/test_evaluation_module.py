"""The metrics as modules of `evaluate`, without a network."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from peftrec.metrics import (
    LIST_METRICS,
    MISS,
    OVERALL_LIST_METRICS,
    RANK_METRICS,
    ListFacts,
    auc,
    evaluate_metric,
    list_metrics,
)

evaluate = pytest.importorskip("evaluate")

NUM_ITEMS, NUM_USERS, PLACES = 30, 9, 12
GENERATOR = np.random.default_rng(8)
LISTS = np.stack([GENERATOR.permutation(NUM_ITEMS)[:PLACES] for _ in range(NUM_USERS)])
TAKEN = [GENERATOR.choice(NUM_ITEMS, size=1 + user % 4, replace=False).tolist() for user in range(NUM_USERS)]
PREDICTIONS = LISTS.tolist()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("a metric reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def ranks() -> np.ndarray:
    table = np.zeros((NUM_USERS, 4), dtype=np.int64)
    for user, (row, taken) in enumerate(zip(PREDICTIONS, TAKEN, strict=True)):
        table[user, : len(taken)] = [row.index(item) + 1 if item in row else MISS for item in taken]
    return table


def facts() -> ListFacts:
    generator = np.random.default_rng(9)
    targets = np.full((NUM_USERS, 4), -1)
    for user, taken in enumerate(TAKEN):
        targets[user, : len(taken)] = taken
    return ListFacts(
        num_items=NUM_ITEMS,
        counts=generator.integers(0, 9, NUM_ITEMS),
        vectors=generator.standard_normal((NUM_ITEMS, 4)),
        categories=np.eye(5)[generator.integers(0, 5, NUM_ITEMS)],
        history_items=generator.integers(0, NUM_ITEMS, 2 * NUM_USERS),
        history_offsets=np.arange(0, 2 * NUM_USERS + 1, 2),
        targets=targets,
    )


@pytest.mark.parametrize("name", [*RANK_METRICS])
@pytest.mark.parametrize("texts", [False, True])
def test_rank_metrics_equal_ours(name: str, texts: bool) -> None:
    predictions, references = PREDICTIONS, TAKEN
    if texts:
        predictions, references = ([[f"0{item}" for item in row] for row in rows] for rows in (PREDICTIONS, TAKEN))
    module = evaluate_metric(name, k=5)
    assert module.compute(predictions=predictions, references=references) == {
        f"{name}@5": RANK_METRICS[name](ranks(), 5).mean()
    }
    assert module.compute(predictions=predictions, references=references, k=3) == {
        f"{name}@3": RANK_METRICS[name](ranks(), 3).mean()
    }


@pytest.mark.parametrize("name", [*LIST_METRICS, *OVERALL_LIST_METRICS])
def test_list_metrics_equal_ours(name: str) -> None:
    per_user, overall = list_metrics(LISTS, facts(), (5,), names=(name,))
    wanted = {key: np.nanmean(values) for key, values in per_user.items()} | overall
    assert evaluate_metric(name, k=5, facts=facts()).compute(predictions=PREDICTIONS, references=TAKEN) == (
        pytest.approx(wanted, rel=1e-12)
    )


def test_auc_is_of_the_whole_list() -> None:
    found = evaluate_metric("auc").compute(predictions=PREDICTIONS, references=TAKEN)
    assert found == {"auc": auc(ranks(), PLACES).mean()}


def test_modules_combine() -> None:
    names = [*RANK_METRICS]
    together = evaluate.combine([*(evaluate_metric(name, k=5) for name in names), evaluate_metric("gini", 5, facts())])
    wanted = {f"{name}@5": RANK_METRICS[name](ranks(), 5).mean() for name in names}
    wanted |= list_metrics(LISTS, facts(), (5,), names=("gini",))[1]
    assert together.compute(predictions=PREDICTIONS, references=TAKEN) == wanted
    for start in range(0, NUM_USERS, 4):
        together.add_batch(predictions=PREDICTIONS[start : start + 4], references=TAKEN[start : start + 4])
    assert together.compute() == wanted
    prefixed = evaluate.combine([evaluate_metric("ndcg", k=5), evaluate_metric("map", k=5)], force_prefix=True)
    assert set(prefixed.compute(predictions=PREDICTIONS, references=TAKEN)) == {"ndcg_ndcg@5", "map_map@5"}


def test_rows_come_one_by_one_and_as_arrays() -> None:
    import torch

    wanted = {"recall@5": RANK_METRICS["recall"](ranks(), 5).mean()}
    module = evaluate_metric("recall", k=5)
    for row, taken in zip(PREDICTIONS, TAKEN, strict=True):
        module.add(prediction=row, reference=taken)
    assert module.compute() == wanted
    assert module.compute(predictions=LISTS, references=[np.array(taken) for taken in TAKEN]) == wanted
    assert module.compute(predictions=torch.from_numpy(LISTS), references=TAKEN) == wanted
    assert module.compute(predictions=[list(row) for row in LISTS], references=TAKEN) == wanted


def test_short_and_empty_lists() -> None:
    module = evaluate_metric("recall", k=5)
    assert module.compute(predictions=[[], [4]], references=[[4], [4]]) == {"recall@5": 0.5}
    known = ListFacts(num_items=6, counts=np.array([4, 2, 1, 1, 0, 0]))
    found = evaluate_metric("novelty", k=5, facts=known).compute(predictions=[[0, 1], []])
    assert found == {"novelty@5": 1.5}
    assert np.isnan(evaluate_metric("novelty", k=5, facts=known).compute(predictions=[[], []])["novelty@5"])


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[1, 2], [3]], [[1], []], "row 1 has no reference"),
        ([[1, 2], [3, 3]], [[1], [3]], "the prediction of row 1 holds an item twice"),
        ([[1, 2], [3]], [[1, 1], [3]], "the reference of row 0 holds an item twice"),
        ([[1.5, 2.0]], [[1]], "ids must be all int or all str, in all batches, got float, int"),
        ([[1, 2]], [["1"]], "ids must be all int or all str, in all batches, got int, str"),
        ([[1, None]], [[1]], "got NoneType, int"),
        ([[True]], [[True]], "got bool"),
        ([[1], [2]], [[1]], "2 predictions and 1 references do not match"),
        ([], [], "there are no predictions"),
        ([[1]], None, "there are no references"),
        (["abc"], [["a"]], "row 0 of the predictions must be a list of ids"),
    ],
)
def test_what_says_nothing_is_refused(predictions: Any, references: Any, message: str) -> None:
    """And the module goes on with the next rows."""
    module = evaluate_metric("ndcg")
    with pytest.raises(ValueError, match=message):
        module.compute(predictions=predictions, references=references)
    assert module.compute(predictions=[["a"]], references=[["a"]]) == {"ndcg@10": 1.0}


def test_batches_have_ids_of_one_kind() -> None:
    module = evaluate_metric("ndcg")
    module.add_batch(predictions=[[1, 2]], references=[[1]])
    with pytest.raises(ValueError, match="in all batches, got str"):
        module.add_batch(predictions=[["1", "2"]], references=[["1"]])
    assert module.compute() == {"ndcg@10": 1.0}
    with pytest.raises(ValueError, match="int, the indexes of items"):
        evaluate_metric("gini", facts=facts()).compute(predictions=[["1", "2"]])


def test_metrics_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no metric 'f1'; there are hr, ndcg"):
        evaluate_metric("f1")
    with pytest.raises(ValueError, match="gini needs facts"):
        evaluate_metric("gini")
    with pytest.raises(ValueError, match="ndcg reads no facts"):
        evaluate_metric("ndcg", facts=facts())
    with pytest.raises(ValueError, match="k must be"):
        evaluate_metric("ndcg", k=0)
    with pytest.raises(ValueError, match="k must be"):
        evaluate_metric("ndcg").compute(predictions=[[1]], references=[[1]], k=0)


def test_the_package_is_loaded_by_those_who_use_it() -> None:
    code = "import sys, peftrec.metrics; assert not {'evaluate', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evaluate", None)
    monkeypatch.delitem(sys.modules, "peftrec.metrics.ranked_list_metric", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'peftrec\[evaluate\]'"):
        evaluate_metric("ndcg")
