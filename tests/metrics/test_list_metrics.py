"""All list metrics: shapes, what is refused, which facts they need."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from peftrec.metrics import LIST_METRICS, OVERALL_LIST_METRICS, ListFacts, list_metrics

NUM_ITEMS, NUM_USERS, PLACES = 40, 12, 8


@pytest.fixture
def facts() -> ListFacts:
    generator = np.random.default_rng(3)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(1, 6, NUM_USERS))])
    categories = np.zeros((NUM_ITEMS, 5), dtype=np.float32)
    categories[np.arange(NUM_ITEMS), generator.integers(0, 5, NUM_ITEMS)] = 1
    return ListFacts(
        num_items=NUM_ITEMS,
        counts=generator.integers(1, 9, NUM_ITEMS),
        vectors=generator.standard_normal((NUM_ITEMS, 6)).astype(np.float32),
        categories=categories,
        history_items=generator.integers(0, NUM_ITEMS, offsets[-1]),
        history_offsets=offsets,
        targets=generator.integers(0, NUM_ITEMS, (NUM_USERS, 2)),
    )


@pytest.fixture
def lists() -> np.ndarray:
    generator = np.random.default_rng(4)
    return np.stack([generator.permutation(NUM_ITEMS)[:PLACES] for _ in range(NUM_USERS)])


NAMES = {"novelty", "popularity_lift", "diversity", "category_diversity", "serendipity", "calibration"}


def test_every_metric_at_every_cutoff(facts: ListFacts, lists: np.ndarray) -> None:
    per_user, overall = list_metrics(lists, facts, (3, 8))
    assert set(LIST_METRICS) == NAMES
    assert list(per_user) == [f"{name}@{k}" for k in (3, 8) for name in LIST_METRICS]
    assert list(overall) == ["coverage@3", "gini@3", "coverage@8", "gini@8"]
    for name, values in per_user.items():
        assert values.shape == (NUM_USERS,), name
        assert values.dtype == np.float64, name
        assert np.isfinite(values).all(), name
        assert len(set(values.tolist())) > 1, name
    assert all(isinstance(value, float) for value in overall.values())
    # The cut is of the list, not of the facts.
    cut, of_all = list_metrics(lists[:, :3], facts, (3,))
    for name, values in cut.items():
        np.testing.assert_array_equal(values, per_user[name])
    assert of_all["gini@3"] == overall["gini@3"]


@pytest.mark.parametrize(
    ("missing", "left_out"),
    [
        (("counts",), {"novelty", "popularity_lift", "serendipity"}),
        (("vectors",), {"diversity"}),
        (("categories",), {"category_diversity", "calibration"}),
        (("history_items", "history_offsets"), {"popularity_lift", "calibration"}),
        (("targets",), {"serendipity"}),
    ],
)
def test_metrics_without_their_facts_are_left_out(
    facts: ListFacts, lists: np.ndarray, missing: tuple[str, ...], left_out: set[str]
) -> None:
    fewer = dataclasses.replace(facts, **dict.fromkeys(missing))
    per_user, overall = list_metrics(lists, fewer, (5,))
    assert {name.partition("@")[0] for name in per_user} == NAMES - left_out
    assert list(overall) == ["coverage@5", "gini@5"]
    for name in left_out:
        with pytest.raises(ValueError, match=f"{name} needs .* which the facts lack"):
            list_metrics(lists, fewer, (5,), names=(name,))


def test_named_metrics_alone_are_computed(facts: ListFacts, lists: np.ndarray) -> None:
    per_user, overall = list_metrics(lists, facts, (5,), names=("gini", "novelty"))
    assert (list(per_user), list(overall)) == (["novelty@5"], ["gini@5"])
    with pytest.raises(ValueError, match="there is no metric 'ndcg'; there are novelty, "):
        list_metrics(lists, facts, (5,), names=("ndcg",))


@pytest.mark.parametrize("name", [*LIST_METRICS, *OVERALL_LIST_METRICS])
class TestEveryMetric:
    def test_lists_that_are_none_are_refused(self, facts: ListFacts, lists: np.ndarray, name: str) -> None:
        metric = (LIST_METRICS | OVERALL_LIST_METRICS)[name]
        arguments = [getattr(facts, fact) for fact in metric.facts]
        for item in (-2, NUM_ITEMS):
            wrong = lists.copy()
            wrong[3, 2] = item
            with pytest.raises(ValueError, match=rf"the list of user 3 holds item {item}; there are 0 to 39"):
                metric.compute(wrong, *arguments)
        wrong = lists.copy()
        wrong[5, 6] = wrong[5, 1]
        with pytest.raises(ValueError, match=rf"the list of user 5 holds item {wrong[5, 1]} twice"):
            metric.compute(wrong, *arguments)
        with pytest.raises(ValueError, match="shape"):
            metric.compute(lists[0], *arguments)
        with pytest.raises(ValueError, match="float64"):
            metric.compute(lists.astype(np.float64), *arguments)

    def test_input_is_left_as_it_is(self, facts: ListFacts, lists: np.ndarray, name: str) -> None:
        kept = lists.copy(), {key: np.copy(value) for key, value in vars(facts).items()}
        list_metrics(lists, facts, (4,), names=(name,))
        np.testing.assert_array_equal(lists, kept[0])
        for key, value in vars(facts).items():
            np.testing.assert_array_equal(value, kept[1][key])

    def test_empty_places_do_not_count(self, facts: ListFacts, lists: np.ndarray, name: str) -> None:
        padded = np.pad(lists, ((0, 0), (0, 3)), constant_values=-1)
        for found, wanted in zip(
            list_metrics(padded, facts, (11,), names=(name,)),
            list_metrics(lists, facts, (8,), names=(name,)),
            strict=True,
        ):
            for value, other in zip(found.values(), wanted.values(), strict=True):
                np.testing.assert_allclose(value, other, rtol=1e-12)

    def test_no_users_are_allowed(self, facts: ListFacts, name: str) -> None:
        none = dataclasses.replace(
            facts,
            history_items=np.empty(0, dtype=np.int64),
            history_offsets=np.zeros(1, dtype=np.int64),
            targets=np.empty((0, 2), dtype=np.int64),
        )
        per_user, overall = list_metrics(np.empty((0, 5), dtype=np.int64), none, (5,), names=(name,))
        assert all(values.shape == (0,) for values in per_user.values())
        assert len(per_user) + len(overall) == 1


@pytest.mark.parametrize("name", [*LIST_METRICS])
def test_users_do_not_touch_each_other(facts: ListFacts, lists: np.ndarray, name: str) -> None:
    """And an empty list has no value."""
    before = list_metrics(lists, facts, (8,), names=(name,))[0][f"{name}@8"]
    lists[4] = -1
    after = list_metrics(lists, facts, (8,), names=(name,))[0][f"{name}@8"]
    assert np.isnan(after[4])
    others = np.arange(NUM_USERS) != 4
    np.testing.assert_allclose(after[others], before[others], rtol=1e-12)


def test_cutoffs_must_fit_the_lists(facts: ListFacts, lists: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the lists have 8 places, too few for a cutoff of 9"):
        list_metrics(lists, facts, (5, 9))
    with pytest.raises(ValueError, match="k must be a whole number from 1"):
        list_metrics(lists, facts, (0,))
    with pytest.raises(ValueError, match="at least one cutoff"):
        list_metrics(lists, facts, ())


def test_facts_that_do_not_fit_each_other_are_refused(facts: ListFacts) -> None:
    for name in ("counts", "vectors", "categories"):
        with pytest.raises(ValueError, match=f"{name} must have a row for each of 40 items, got 39"):
            dataclasses.replace(facts, **{name: getattr(facts, name)[:-1]})
    with pytest.raises(ValueError, match="belong together"):
        dataclasses.replace(facts, history_items=None)
    with pytest.raises(ValueError, match="there are no counts"):
        ListFacts(num_items=3, counted=5)
    for number in (0, 2.0, True):
        with pytest.raises(ValueError, match="num_items must be a whole number from 1"):
            ListFacts(num_items=number)  # type: ignore[arg-type]


def test_counts_of_events_or_of_users(facts: ListFacts, lists: np.ndarray) -> None:
    assert facts.num_counted == facts.counts.sum()  # type: ignore[union-attr]
    of_users = dataclasses.replace(facts, counted=1000)
    events, users = (list_metrics(lists, one, (5,))[0]["novelty@5"] for one in (facts, of_users))
    np.testing.assert_allclose(users - events, np.log2(1000 / facts.counts.sum()))  # type: ignore[union-attr]
    for wrong, message in ((-1, "got -1 of item 0"), (0.5, "integers")):
        counts = np.full(NUM_ITEMS, 2.0 if wrong == 0.5 else 2).astype(type(wrong))
        counts[0] = wrong
        with pytest.raises(ValueError, match=message):
            list_metrics(lists, dataclasses.replace(facts, counts=counts), (5,))
