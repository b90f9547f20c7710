"""content_knn against values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peftrec.baselines.content_knn import ContentKNN
from peftrec.config import InputError, RecipeError, parse_section

NUM_ITEMS = 30


@pytest.fixture(scope="module")
def dataset(rows_dataset: Callable[..., Any]) -> Any:
    """Of which nothing but the catalogue is read."""
    return rows_dataset([[0, 1], [2]], NUM_ITEMS)


def make_vectors(num_items: int = NUM_ITEMS, dim: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(num_items, dim, generator=generator) @ torch.diag(torch.arange(1.0, dim + 1)) + 2.0


def histories(*rows: list[int]) -> NDArray[np.int64]:
    length = max(map(len, rows))
    return np.array([[-1] * (length - len(row)) + row for row in rows], dtype=np.int64).reshape(len(rows), length)


class TestContentKNN:
    def reference(self, vectors: torch.Tensor, history: list[int], config: ContentKNN) -> NDArray[np.float64]:
        """The definition, one user at a time, in float64."""
        x = vectors.double().numpy()
        x = x - x.mean(axis=0)
        covariance = x.T @ x / len(x) + config.ridge * np.eye(x.shape[1])
        eigenvalues, basis = np.linalg.eigh(covariance)
        items = x @ (basis * eigenvalues**-config.whitening_power) @ basis.T
        items /= np.linalg.norm(items, axis=1, keepdims=True)
        user = np.zeros(x.shape[1])
        for k, item in enumerate(reversed(history[-config.num_recent :])):
            user += config.decay**k * items[item]
        return np.asarray(items @ user)

    @pytest.mark.parametrize("config", [ContentKNN(), ContentKNN(num_recent=2, decay=1.0, whitening_power=0.5)])
    @pytest.mark.parametrize("history", [[4], [4, 9], [3, 3, 1], list(range(20))])
    def test_is_the_definition(self, config: ContentKNN, history: list[int], dataset: Any) -> None:
        vectors = make_vectors()
        scores = config.fit(dataset, vectors).scores(histories(history))
        np.testing.assert_allclose(scores[0].numpy(), self.reference(vectors, history, config), atol=1e-3)

    def test_defaults_are_the_published_definition(self) -> None:
        config = ContentKNN()
        assert (config.num_recent, config.decay, config.whitening_power, config.ridge) == (8, 0.7, 0.25, 0.001)

    def test_items_have_unit_length_after_whitening(self, dataset: Any) -> None:
        unit = ContentKNN().fit(dataset, make_vectors()).tensors()["item_vectors"]
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(NUM_ITEMS))

    def test_the_newest_event_weighs_most(self, dataset: Any) -> None:
        fitted = ContentKNN().fit(dataset, make_vectors())
        unit = fitted.tensors()["item_vectors"]
        expected = unit @ (unit[9] + 0.7 * unit[4] + 0.49 * unit[2])
        torch.testing.assert_close(fitted.scores(histories([2, 4, 9]))[0], expected)

    def test_only_the_last_eight_events_count(self, dataset: Any) -> None:
        fitted = ContentKNN().fit(dataset, make_vectors())
        torch.testing.assert_close(
            fitted.scores(histories(list(range(12)))), fitted.scores(histories(list(range(4, 12))))
        )

    def test_an_empty_history_scores_zero(self, dataset: Any) -> None:
        fitted = ContentKNN().fit(dataset, make_vectors())
        assert (fitted.scores(histories([1], []))[1] == 0).all()
        assert (fitted.scores(histories([])) == 0).all()

    def test_equal_vectors_score_zero_rather_than_nan(self, dataset: Any) -> None:
        fitted = ContentKNN().fit(dataset, torch.ones(NUM_ITEMS, 5))
        assert (fitted.scores(histories([1, 2])) == 0).all()

    def test_vectors_with_gradient_leave_none_behind(self, dataset: Any) -> None:
        fitted = ContentKNN().fit(dataset, make_vectors().requires_grad_())
        assert not fitted.tensors()["item_vectors"].requires_grad

    def test_refuses_vectors_that_do_not_fit_the_catalogue(self, dataset: Any) -> None:
        with pytest.raises(ValueError, match="needs item_vectors"):
            ContentKNN().fit(dataset)
        with pytest.raises(ValueError, match=rf"\({NUM_ITEMS}, dimension\).*got \(3, 5\)"):
            ContentKNN().fit(dataset, make_vectors(3))

    def test_refuses_vectors_with_nan_naming_the_item(self, dataset: Any) -> None:
        vectors = make_vectors()
        vectors[6, 2] = float("nan")
        with pytest.raises(InputError, match="first: item 'i6'"):
            ContentKNN().fit(dataset, vectors)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("num_recent", 0), ("decay", 0.0), ("decay", 1.1), ("whitening_power", -0.25), ("ridge", 0.0)],
    )
    def test_config_refuses_values_out_of_range(self, key: str, value: float) -> None:
        with pytest.raises(RecipeError, match=f"baseline.{key}: .* out of range"):
            parse_section(ContentKNN, {key: value}, path="baseline")
