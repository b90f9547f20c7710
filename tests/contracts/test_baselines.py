"""Every baseline keeps the protocol, scores what is tied as tied, and becomes a run folder like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peftrec import Recommender, ensemble, evaluate
from peftrec.baselines import BASELINES, Baseline, FittedBaseline
from peftrec.config import InputError
from peftrec.evaluation import ProductScores, evaluate_cases
from peftrec.publishing import load_run
from peftrec.run import train

KINDS = BASELINES.kinds()


def histories(*rows: list[int]) -> NDArray[np.int64]:
    length = max(map(len, rows))
    return np.array([[-1] * (length - len(row)) + row for row in rows], dtype=np.int64).reshape(len(rows), length)


def config_of(kind: str) -> Baseline:
    if kind == "ials":
        pytest.importorskip("implicit")
    config: Baseline = BASELINES.load(kind)()
    return config


@pytest.mark.parametrize("kind", KINDS)
def test_the_declared_seed_is_a_field(kind: str) -> None:
    assert BASELINES.load(kind).has_seed == (
        "seed" in {field.name for field in dataclasses.fields(BASELINES.load(kind))}
    )


def fit(kind: str, dataset: Any) -> FittedBaseline:
    num_items = len(dataset.catalogue)
    vectors = torch.randn(num_items, 5, generator=torch.Generator().manual_seed(3)) + 2.0
    return config_of(kind).fit(dataset, vectors.requires_grad_())


@pytest.fixture(scope="module")
def fitted(toy_dataset: Any) -> Callable[[str], FittedBaseline]:
    known: dict[str, FittedBaseline] = {}

    def get(kind: str) -> FittedBaseline:
        if kind not in known:
            known[kind] = fit(kind, toy_dataset)
        return known[kind]

    return get


ROWS: list[list[int]] = [[1, 2, 3], [4], [], list(range(12)), [7, 7, 8], [39, 0]]


@pytest.mark.parametrize("kind", KINDS)
class TestScores:
    def test_have_the_shape_and_type_of_the_protocol(self, kind: str, fitted: Callable[..., Any]) -> None:
        scores = fitted(kind).scores(histories(*ROWS))
        assert (scores.shape, scores.dtype, scores.requires_grad) == ((len(ROWS), 40), torch.float32, False)
        assert scores.isfinite().all()
        assert fitted(kind).scores(histories([], [])).shape == (2, 40)
        assert fitted(kind).scores(np.empty((0, 3), dtype=np.int64)).shape == (0, 40)

    def test_are_the_same_of_a_second_fit(self, kind: str, fitted: Callable[..., Any], toy_dataset: Any) -> None:
        first, second = fitted(kind).tensors(), fit(kind, toy_dataset).tensors()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_are_the_same_from_stored_state(self, kind: str, fitted: Callable[..., Any]) -> None:
        tensors = {name: tensor.clone() for name, tensor in fitted(kind).tensors().items()}
        again = config_of(kind).from_tensors(tensors)
        assert torch.equal(again.scores(histories(*ROWS)), fitted(kind).scores(histories(*ROWS)))

    def test_are_not_touched_by_padding(self, kind: str, fitted: Callable[..., Any]) -> None:
        padded = histories([4, 9], list(range(20)))[:1]
        torch.testing.assert_close(fitted(kind).scores(padded), fitted(kind).scores(padded[:, -2:]))

    def test_of_a_batch_are_those_of_its_users_alone(self, kind: str, fitted: Callable[..., Any]) -> None:
        alone = torch.cat([fitted(kind).scores(histories(row)) for row in ROWS])
        torch.testing.assert_close(fitted(kind).scores(histories(*ROWS)), alone)

    def test_of_products_are_the_products(self, kind: str, fitted: Callable[..., Any]) -> None:
        own = fitted(kind)
        if not isinstance(own, ProductScores):
            pytest.skip("holds no vectors")
        products = torch.addmm(own.bias_N, own.user_vectors(histories(*ROWS), None, None, None), own.vectors_ND.T)
        torch.testing.assert_close(own.scores(histories(*ROWS)), products)
        kept = np.array(histories(*ROWS)[:, -own.max_history :])
        torch.testing.assert_close(own.scores(kept), own.scores(histories(*ROWS)))

    def test_without_history_are_tied_unless_everyone_gets_the_same(
        self, kind: str, fitted: Callable[..., Any]
    ) -> None:
        nobody, somebody, other = fitted(kind).scores(histories([], [1, 2, 3], [14]))
        if torch.equal(somebody, other):
            assert torch.equal(nobody, somebody)
        else:
            assert (nobody == 0).all()

    def test_of_items_that_never_trained_are_tied(
        self, kind: str, fitted: Callable[..., Any], toy_dataset: Any
    ) -> None:
        if config_of(kind).needs_item_vectors:
            pytest.skip("knows items that never trained by their text")
        cold = torch.from_numpy(toy_dataset.item_counts() == 0)
        assert int(cold.sum()) == 4
        scores = fitted(kind).scores(histories(*ROWS, [int(cold.nonzero()[0, 0])]))
        assert (scores[:, cold] == 0).all()
        assert (scores[0] > 0).any()

    def test_refuse_an_item_outside_the_catalogue(self, kind: str, fitted: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="item 40; items are 0 to 39"):
            fitted(kind).scores(histories([1, 40]))
        with pytest.raises(ValueError, match="item -2"):
            fitted(kind).scores(histories([-2]))
        with pytest.raises(ValueError, match="shape"):
            fitted(kind).scores(np.array([1, 2], dtype=np.int64))

    def test_refuse_state_of_another_kind(self, kind: str, fitted: Callable[..., Any]) -> None:
        config, tensors = config_of(kind), fitted(kind).tensors()
        with pytest.raises(InputError, match=rf"{kind} stores the tensors .* got \['other'\]"):
            config.from_tensors({"other": torch.zeros(3)})
        for name in tensors:
            with pytest.raises(InputError, match=f"{name!r} must be"):
                config.from_tensors(tensors | {name: torch.zeros(3, dtype=torch.float16)})

    def test_are_better_than_a_random_order(self, kind: str, fitted: Callable[..., Any], toy_dataset: Any) -> None:
        """With vectors that tell the kinds of items apart, as texts do."""

        def ndcg(scores: Any) -> float:
            test, sequences = toy_dataset.split.test, toy_dataset.sequences
            return evaluate_cases(scores, test, sequences, len(toy_dataset.catalogue)).summary()["ndcg@10"]

        generator = torch.Generator().manual_seed(5)
        chance = [ndcg(lambda rows: torch.rand(len(rows), 40, generator=generator)) for _ in range(20)]
        told = torch.nn.functional.one_hot(torch.arange(40) // 10).float()
        own = config_of(kind).fit(toy_dataset, told)
        assert ndcg(own if isinstance(own, ProductScores) else own.scores) > 1.2 * np.mean(chance)


@pytest.mark.parametrize("kind", KINDS)
def test_more_events_take_longer_and_what_is_kept_is_held(
    kind: str, fitted: Callable[..., Any], toy_dataset: Any
) -> None:
    config = config_of(kind)
    split = dataclasses.replace(toy_dataset.split, train_lengths=toy_dataset.split.train_lengths // 2)
    half = dataclasses.replace(toy_dataset, split=split)
    assert 0 < config.fit_operations(half) < config.fit_operations(toy_dataset) or config.needs_item_vectors
    assert config.fit_operations(toy_dataset) < np.inf
    kept = sum(tensor.nbytes for tensor in fitted(kind).tensors().values())
    assert kept <= config.fit_bytes(toy_dataset) < np.inf


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_one_like_any_other(kind: str, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    config_of(kind)
    recipe = make_recipe(f"baseline.kind={kind}", output_dir=tmp_path / "run")
    metrics = train(recipe)
    run = load_run(tmp_path / "run")
    assert run.recipe == recipe
    assert run.baseline is not None
    assert evaluate(tmp_path / "run")["model"] == metrics["test"]["model"]
    recommender = Recommender.from_pretrained(tmp_path / "run")
    history = ["wine0", "wine1", "wine1"]
    found = recommender.recommend(history, k=50)
    assert [entry.rank for entry in found] == list(range(1, 39))
    assert not {entry.item_id for entry in found} & set(history)
    popular = recommender.recommend([], k=40)
    assert [entry.score for entry in popular] == sorted(run.train_counts_N.tolist(), reverse=True)
    train(make_recipe("baseline.kind=content_knn", output_dir=tmp_path / "other"))
    both = ensemble([tmp_path / "run", tmp_path / "other"], tmp_path / "both")
    assert both["test"]["model"]["num_users"] == metrics["test"]["model"]["num_users"]
