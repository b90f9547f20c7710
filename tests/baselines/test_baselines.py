"""The protocol, kept by every kind, and the two kinds against values worked out by hand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from peftrec.baselines import BASELINES, Baseline
from peftrec.baselines.content_knn import ContentKNN
from peftrec.baselines.popularity import Popularity
from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data import Catalogue

NUM_ITEMS = 30


@dataclass(frozen=True)
class FakeDataset:
    """The part of a data set that baselines read."""

    catalogue: Catalogue
    counts: NDArray[np.int64]

    def item_counts(self) -> NDArray[np.int64]:
        return self.counts


def make_dataset(num_items: int = NUM_ITEMS) -> Any:
    names = tuple(f"i{index}" for index in range(num_items))
    return FakeDataset(Catalogue(ids=names, texts=names, titles=names), np.arange(num_items, dtype=np.int64) % 7)


def make_vectors(num_items: int = NUM_ITEMS, dim: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(num_items, dim, generator=generator) @ torch.diag(torch.arange(1.0, dim + 1)) + 2.0


def histories(*rows: list[int]) -> NDArray[np.int64]:
    length = max(map(len, rows))
    return np.array([[-1] * (length - len(row)) + row for row in rows], dtype=np.int64).reshape(len(rows), length)


@pytest.mark.parametrize("kind", ["popularity", "content_knn"])
class TestEveryBaseline:
    def load(self, kind: str) -> Baseline:
        config: Baseline = BASELINES.load(kind)()
        assert config.kind == kind
        return config

    def test_scores_have_the_shape_and_type_of_the_protocol(self, kind: str) -> None:
        fitted = self.load(kind).fit(make_dataset(), make_vectors())
        scores = fitted.scores(histories([1, 2, 3], [4], []))
        assert scores.shape == (3, NUM_ITEMS)
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()
        assert not scores.requires_grad

    def test_stored_state_gives_the_same_scores(self, kind: str) -> None:
        config = self.load(kind)
        fitted = config.fit(make_dataset(), make_vectors())
        tensors = {name: tensor.clone() for name, tensor in fitted.tensors().items()}
        rows = histories([1, 2, 3], [4], [])
        assert torch.equal(config.from_tensors(tensors).scores(rows), fitted.scores(rows))

    def test_padding_changes_nothing(self, kind: str) -> None:
        fitted = self.load(kind).fit(make_dataset(), make_vectors())
        padded = np.array([[-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 4, 9]], dtype=np.int64)
        torch.testing.assert_close(fitted.scores(padded), fitted.scores(padded[:, -2:]))

    def test_a_batch_scores_as_its_users_alone(self, kind: str) -> None:
        fitted = self.load(kind).fit(make_dataset(), make_vectors())
        rows: list[list[int]] = [list(range(12)), [5], [], [7, 7, 8]]
        alone = torch.cat([fitted.scores(histories(row)) for row in rows])
        torch.testing.assert_close(fitted.scores(histories(*rows)), alone)

    def test_refuses_an_item_outside_the_catalogue(self, kind: str) -> None:
        fitted = self.load(kind).fit(make_dataset(), make_vectors())
        with pytest.raises(ValueError, match=f"item {NUM_ITEMS}; items are 0 to {NUM_ITEMS - 1}"):
            fitted.scores(histories([1, NUM_ITEMS]))
        with pytest.raises(ValueError, match="item -2"):
            fitted.scores(histories([-2]))
        with pytest.raises(ValueError, match="shape"):
            fitted.scores(np.array([1, 2], dtype=np.int64))

    def test_refuses_state_of_another_kind(self, kind: str) -> None:
        config = self.load(kind)
        (name,) = config.fit(make_dataset(), make_vectors()).tensors()
        with pytest.raises(InputError, match=r"stores the tensors .* got \['other'\]"):
            config.from_tensors({"other": torch.zeros(3)})
        with pytest.raises(InputError, match=f"{name!r} must be"):
            config.from_tensors({name: torch.zeros(3, dtype=torch.float16)})


class TestPopularity:
    def test_scores_are_the_training_counts_for_everyone(self) -> None:
        dataset = make_dataset()
        scores = Popularity().fit(dataset).scores(histories([1], []))
        np.testing.assert_array_equal(scores.numpy(), np.stack([dataset.counts, dataset.counts]))

    def test_equal_counts_stay_tied(self) -> None:
        scores = Popularity().fit(make_dataset()).scores(histories([1]))
        assert scores[0, 1] == scores[0, 8] == scores[0, 15]


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
    def test_is_the_definition(self, config: ContentKNN, history: list[int]) -> None:
        vectors = make_vectors()
        scores = config.fit(make_dataset(), vectors).scores(histories(history))
        np.testing.assert_allclose(scores[0].numpy(), self.reference(vectors, history, config), atol=1e-3)

    def test_defaults_are_the_published_definition(self) -> None:
        config = ContentKNN()
        assert (config.num_recent, config.decay, config.whitening_power, config.ridge) == (8, 0.7, 0.25, 0.001)

    def test_items_have_unit_length_after_whitening(self) -> None:
        unit = ContentKNN().fit(make_dataset(), make_vectors()).tensors()["item_vectors"]
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(NUM_ITEMS))

    def test_the_newest_event_weighs_most(self) -> None:
        fitted = ContentKNN().fit(make_dataset(), make_vectors())
        unit = fitted.tensors()["item_vectors"]
        expected = unit @ (unit[9] + 0.7 * unit[4] + 0.49 * unit[2])
        torch.testing.assert_close(fitted.scores(histories([2, 4, 9]))[0], expected)

    def test_only_the_last_eight_events_count(self) -> None:
        fitted = ContentKNN().fit(make_dataset(), make_vectors())
        torch.testing.assert_close(
            fitted.scores(histories(list(range(12)))), fitted.scores(histories(list(range(4, 12))))
        )

    def test_an_empty_history_scores_zero(self) -> None:
        fitted = ContentKNN().fit(make_dataset(), make_vectors())
        assert (fitted.scores(histories([1], []))[1] == 0).all()
        assert (fitted.scores(histories([])) == 0).all()

    def test_equal_vectors_score_zero_rather_than_nan(self) -> None:
        fitted = ContentKNN().fit(make_dataset(), torch.ones(NUM_ITEMS, 5))
        assert (fitted.scores(histories([1, 2])) == 0).all()

    def test_vectors_with_gradient_leave_none_behind(self) -> None:
        fitted = ContentKNN().fit(make_dataset(), make_vectors().requires_grad_())
        assert not fitted.tensors()["item_vectors"].requires_grad

    def test_refuses_vectors_that_do_not_fit_the_catalogue(self) -> None:
        with pytest.raises(ValueError, match="needs item_vectors"):
            ContentKNN().fit(make_dataset())
        with pytest.raises(ValueError, match=rf"\({NUM_ITEMS}, dimension\).*got \(3, 5\)"):
            ContentKNN().fit(make_dataset(), make_vectors(3))

    def test_refuses_vectors_with_nan_naming_the_item(self) -> None:
        vectors = make_vectors()
        vectors[6, 2] = float("nan")
        with pytest.raises(InputError, match="first: item 'i6'"):
            ContentKNN().fit(make_dataset(), vectors)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("num_recent", 0), ("decay", 0.0), ("decay", 1.1), ("whitening_power", -0.25), ("ridge", 0.0)],
    )
    def test_config_refuses_values_out_of_range(self, key: str, value: float) -> None:
        with pytest.raises(RecipeError, match=f"baseline.{key}: .* out of range"):
            parse_section(ContentKNN, {key: value}, path="baseline")
