"""Lists made anew agree with plain Python, and hold what they promise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data.group_table import Groups
from peftrec.metrics import CategoryShares, calibration, intra_list_diversity
from peftrec.retrieval.reranking import (
    Candidates,
    Reranking,
    TableFacts,
    groups_among,
    make_lists,
    read_reranking,
)
from peftrec.retrieval.reranking.cap import Cap, HardCap
from peftrec.retrieval.reranking.exposure import Exposure
from peftrec.retrieval.reranking.freshness import Freshness
from peftrec.retrieval.reranking.mmr import Mmr


def relevance(scores: Sequence[float]) -> list[float]:
    low, high = min(scores), max(scores)
    return [(score - low) / (high - low) if high > low else 0.0 for score in scores]


def best_first(gains: dict[int, float]) -> int:
    """The first of the highest; rounding apart."""
    most = max(round(gain, 6) for gain in gains.values())
    return min(place for place, gain in gains.items() if round(gain, 6) == most)


def naive_mmr(scores: Sequence[float], vectors: Any, diversity: float, k: int) -> list[int]:
    told = relevance(scores)

    def cosine(one: int, other: int) -> float:
        a, b = vectors[one], vectors[other]
        size = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
        return float(a @ b) / size if size else 0.0

    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        gains = {}
        for place in range(len(scores)):
            if place not in chosen:
                alike = max([-1.0, *(cosine(place, other) for other in chosen)])
                gains[place] = (1 - diversity) * told[place] - diversity * alike
        chosen.append(best_first(gains))
    return chosen


def shares(rows: Sequence[Sequence[str]]) -> dict[str, float]:
    known = [row for row in rows if row]
    found: Counter[str] = Counter()
    for row in known:
        for value in row:
            found[value] += 1 / len(row) / len(known)
    return dict(found)


def divergence(history: Sequence[Sequence[str]], shown: Sequence[Sequence[str]], alpha: float = 0.01) -> float:
    p, q = shares(history), shares(shown)
    if not p:
        return 0.0
    if not q:
        return -math.log(alpha)
    return sum(
        share * math.log(share / ((1 - alpha) * q.get(value, 0.0) + alpha * share)) for value, share in p.items()
    )


def naive_calibrated(
    scores: Sequence[float],
    values: Sequence[Sequence[str]],
    history: Sequence[Sequence[str]],
    strength: float,
    k: int,
) -> list[int]:
    told = relevance(scores)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        gains = {
            place: (1 - strength) * told[place]
            - strength * divergence(history, [values[other] for other in [*chosen, place]])
            for place in range(len(scores))
            if place not in chosen
        }
        chosen.append(best_first(gains))
    return chosen


def naive_capped(values: Sequence[Sequence[str]], most: int, k: int) -> list[int]:
    chosen: list[int] = []
    counts: Counter[str] = Counter()
    while len(chosen) < min(k, len(values)):
        free = [place for place in range(len(values)) if place not in chosen]
        fine = [place for place in free if all(counts[value] < most for value in values[place])]
        place = (fine or free)[0]
        chosen.append(place)
        counts.update(values[place])
    return chosen


def exposure_of(members: Sequence[bool]) -> float:
    """The share of a list's exposure that its members have."""
    discounts = [1 / math.log2(place + 2) for place in range(len(members))]
    return sum(d for d, member in zip(discounts, members, strict=True) if member) / sum(discounts)


def reachable(members: Sequence[bool], k: int) -> float:
    """The largest share that any list of k has."""
    length = min(k, len(members))
    inside = min(sum(members), length)
    return exposure_of([place < inside for place in range(length)])


VALUES = ("a", "b", "c", "d")
MANY = settings(max_examples=30, deadline=None)


class World:
    """A catalogue by chance and the candidates of some users."""

    def __init__(self, seed: int, num_users: int = 3, num_candidates: int = 12, several: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.num_items = 30
        self.vectors = rng.normal(size=(self.num_items, 5)).astype(np.float32)
        self.vectors[0] = 0
        self.values = [
            tuple(rng.choice(VALUES, size=int(rng.integers(0, 3 if several else 2)), replace=False).tolist())
            for _ in range(self.num_items)
        ]
        self.groups: Groups = groups_among(self.values, "kind")
        self.facts = TableFacts(self.vectors, {"kind": self.groups}, {"out": rng.uniform(0, 100, self.num_items)})
        self.items = np.stack([rng.permutation(self.num_items)[:num_candidates] for _ in range(num_users)])
        lengths = rng.integers(1, num_candidates + 1, num_users)
        lengths[0] = num_candidates
        self.items[np.arange(num_candidates) >= lengths[:, None]] = -1
        # Few different scores, so that there are ties.
        self.scores = -np.sort(-rng.integers(-4, 5, self.items.shape) * 0.5, axis=1)
        self.histories = [rng.integers(0, self.num_items, int(rng.integers(0, 8))) for _ in range(num_users)]
        self.candidates = Candidates(
            self.items,
            np.where(self.items >= 0, self.scores, -np.inf),
            np.concatenate(self.histories),
            np.cumsum([0, *map(len, self.histories)]),
        )

    def make(self, *steps: dict[str, Any] | Any, k: int = 6) -> list[list[int]]:
        parsed = [
            parse_section(Reranking, {"steps": [step]}).steps[0] if isinstance(step, dict) else step for step in steps
        ]
        found = make_lists(parsed, self.candidates, self.facts, k)
        assert found.shape == (len(self.items), k)
        return [[place for place in row if place >= 0] for row in found.tolist()]

    def of(self, user: int) -> tuple[list[float], list[int]]:
        here = self.items[user] >= 0
        return self.scores[user][here].tolist(), self.items[user][here].tolist()


worlds = st.integers(0, 10_000).map(World)
strengths = st.sampled_from([0.0, 0.1, 0.35, 0.8, 1.0])


@MANY
@given(worlds, st.sampled_from([{"kind": "mmr", "diversity": 0},
                                {"kind": "calibration", "field": "kind", "strength": 0.0},
                                {"kind": "freshness", "strength": 0, "half_life_days": 9}, None]))  # fmt: skip
def test_with_no_strength_the_order_stays(world: World, step: dict[str, Any] | None) -> None:
    lists = world.make(*([step] if step else []))
    assert lists == [list(range(min(6, len(world.of(user)[0])))) for user in range(3)]


@MANY
@given(worlds, strengths)
def test_mmr_agrees_with_plain_python(world: World, diversity: float) -> None:
    lists = world.make({"kind": "mmr", "diversity": diversity})
    for user, found in enumerate(lists):
        scores, items = world.of(user)
        assert found == naive_mmr(scores, world.vectors[items].astype(float), diversity, 6)


@MANY
@given(worlds, strengths)
def test_mmr_by_a_field_agrees_with_plain_python(world: World, diversity: float) -> None:
    lists = world.make({"kind": "mmr", "diversity": diversity, "field": "kind"})
    held = np.array([[value in row for value in VALUES] for row in world.values], dtype=float)
    for user, found in enumerate(lists):
        scores, items = world.of(user)
        assert found == naive_mmr(scores, held[items], diversity, 6)


@MANY
@given(worlds, strengths)
def test_calibration_agrees_with_plain_python(world: World, strength: float) -> None:
    lists = world.make({"kind": "calibration", "field": "kind", "strength": strength})
    for user, found in enumerate(lists):
        scores, items = world.of(user)
        values = [world.values[item] for item in items]
        history = [world.values[item] for item in world.histories[user]]
        assert found == naive_calibrated(scores, values, history, strength, 6)


def test_calibration_and_mmr_move_what_their_metrics_measure() -> None:
    before, after, apart, closer = [], [], [], []
    for seed in range(40):
        world = World(seed, num_users=1, num_candidates=20)
        shares = CategoryShares.even(world.groups.places, world.groups.offsets, len(world.groups.names))
        history = (world.candidates.history_items, world.candidates.history_offsets)
        if not any(world.values[item] for item in world.histories[0]):
            continue
        items = world.items[0]
        steps = ({"kind": "calibration", "field": "kind", "strength": 0.7}, {"kind": "mmr", "diversity": 0.7})
        calibrated, diverse = (items[world.make(step)[0]][None] for step in steps)
        before += calibration(items[None, :6], *history, shares).tolist()
        after += calibration(calibrated, *history, shares).tolist()
        closer += intra_list_diversity(items[None, :6], world.vectors).tolist()
        apart += intra_list_diversity(diverse, world.vectors).tolist()
    assert len(before) > 20
    assert np.nanmean(after) < np.nanmean(before) - 0.3
    assert np.mean(apart) > np.mean(closer) + 0.1


@MANY
@given(worlds, st.integers(1, 4))
def test_a_cap_agrees_with_plain_python(world: World, most: int) -> None:
    lists = world.make({"kind": "cap", "field": "kind", "most": most})
    for user, found in enumerate(lists):
        assert found == naive_capped([world.values[item] for item in world.of(user)[1]], most, 6)


@MANY
@given(st.integers(0, 10_000), st.integers(1, 3), strengths)
def test_a_cap_holds_wherever_it_can(seed: int, most: int, diversity: float) -> None:
    world = World(seed, several=False)
    lists = world.make({"kind": "mmr", "diversity": diversity}, {"kind": "cap", "field": "kind", "most": most})
    for user, found in enumerate(lists):
        items = world.of(user)[1]
        there = Counter(value for item in items for value in world.values[item])
        # Of items of one value each, so many at most can stand in a list without breaking the cap.
        without = sum(not world.values[item] for item in items)
        length = min(6, without + sum(min(most, number) for number in there.values()))
        shown = Counter(value for place in found[:length] for value in world.values[items[place]])
        assert max(shown.values(), default=0) <= most
        assert len(found) == min(6, len(items))


@MANY
@given(worlds, st.integers(1, 3))
def test_a_hard_cap_is_never_broken(world: World, most: int) -> None:
    hard = world.make(
        HardCap(field="kind", most=most), {"kind": "exposure", "field": "kind", "values": ["a"], "share": 0.9}
    )
    for user, found in enumerate(hard):
        items = world.of(user)[1]
        shown = Counter(value for place in found for value in world.values[items[place]])
        assert max(shown.values(), default=0) <= most
        left = [world.values[item] for place, item in enumerate(items) if place not in found]
        # It ends only where it must.
        assert len(found) == 6 or all(any(shown[value] == most for value in row) and row for row in left)


@MANY
@given(worlds, st.floats(0.05, 0.95), st.integers(1, 12), strengths)
def test_exposure_reaches_its_share_wherever_it_can(world: World, share: float, k: int, diversity: float) -> None:
    step = {"kind": "exposure", "field": "kind", "values": ["a", "c"], "share": share}
    lists = world.make({"kind": "mmr", "diversity": diversity}, step, k=k)
    for user, found in enumerate(lists):
        items = world.of(user)[1]
        members = [bool({"a", "c"} & set(world.values[item])) for item in items]
        shown = [members[place] for place in found]
        assert len(found) == min(k, len(items))
        if reachable(members, k) >= share:
            assert exposure_of(shown) >= share - 1e-9
        for length in range(1, len(shown) + 1):
            assert sum(shown[:length]) >= min(math.floor(share * length), sum(members))


def test_exposure_changes_nothing_where_the_share_is_reached() -> None:
    items = np.arange(10)
    facts = TableFacts(fields={"by": groups_among([("new",) if item < 5 else ("old",) for item in items], "by")})
    candidates = Candidates.of_one(items, np.arange(10.0)[::-1])
    (fair,) = make_lists([Exposure(field="by", values=("new",), share=0.5)], candidates, facts, 10)
    assert fair.tolist() == list(range(10))
    (fair,) = make_lists([Exposure(field="by", values=("old",), share=0.3)], candidates, facts, 5)
    shown = ["old" if item >= 5 else "new" for item in fair]
    assert shown == ["new", "new", "old", "new", "old"]
    assert fair.tolist() == [0, 1, 5, 2, 6]


def test_freshness_halves_with_each_half_life() -> None:
    items = np.arange(4)
    facts = TableFacts(days_old_N={None: np.array([80.0, 20.0, np.nan, -3.0])})
    candidates = Candidates.of_one(items, np.array([3.0, 2.0, 1.0, 0.0]))
    gain = Freshness(strength=0.5, half_life_days=20).begin(candidates, facts).gain()
    assert gain.tolist() == [[0.0625, 0.5, 0.0, 1.0]]
    # 0.5 * relevance + 0.5 * freshness: .53, .58, .17, .5
    (found,) = make_lists([Freshness(strength=0.5, half_life_days=20)], candidates, facts, 4)
    assert found.tolist() == [1, 0, 3, 2]
    unknown = make_lists([Freshness(strength=0.5, half_life_days=20)], candidates, TableFacts(), 4)
    assert unknown.tolist() == [[0, 1, 2, 3]]


def test_strengths_add_up_and_their_order_does_not_matter() -> None:
    steps = [
        {"kind": "mmr", "diversity": 0.3},
        {"kind": "calibration", "field": "kind", "strength": 0.3},
        {"kind": "freshness", "strength": 0.2, "half_life_days": 30, "field": "out"},
    ]
    for seed in range(10):
        world = World(seed)
        assert world.make(*steps) == world.make(*reversed(steps))


def test_of_constraints_the_first_gives_way_last() -> None:
    items = np.arange(4)
    facts = TableFacts(fields={"by": groups_among([("x",), ("x",), ("x",), ("y",)], "by")})
    candidates = Candidates.of_one(items, np.arange(4.0)[::-1])
    cap, share = Cap(field="by", most=1), Exposure(field="by", values=("x",), share=0.9)
    assert make_lists([cap, share], candidates, facts, 2).tolist() == [[0, 3]]
    assert make_lists([share, cap], candidates, facts, 2).tolist() == [[0, 1]]


@MANY
@given(st.integers(0, 10_000))
def test_users_do_not_touch_each_other(seed: int) -> None:
    world = World(seed, num_users=4)
    steps = [
        {"kind": "mmr", "diversity": 0.3},
        {"kind": "calibration", "field": "kind", "strength": 0.3},
        {"kind": "cap", "field": "kind", "most": 2},
        {"kind": "exposure", "field": "kind", "values": ["b"], "share": 0.4},
    ]
    together = world.make(*steps)
    for user in range(4):
        alone = World(seed, num_users=4)
        alone.items = alone.items[user : user + 1]
        own = alone.histories[user]
        alone.candidates = Candidates(
            alone.items, alone.candidates.scores_BC[user : user + 1], own, np.array([0, len(own)])
        )
        assert alone.make(*steps) == [together[user]]


def test_nobody_and_nothing() -> None:
    facts = TableFacts(np.ones((3, 2), dtype=np.float32), {"by": groups_among([(), (), ()], "by")})
    section = parse_section(
        Reranking,
        {
            "steps": [
                {"kind": "mmr", "diversity": 0.2},
                {"kind": "calibration", "field": "by", "strength": 0.2},
                {"kind": "cap", "field": "by", "most": 1},
                {"kind": "exposure", "field": "by", "values": ["x"], "share": 0.5},
            ]
        },
    )
    empty = Candidates.of_one(np.empty(0, dtype=np.int64), np.empty(0))
    assert make_lists(section.steps, empty, facts, 2).tolist() == [[-1, -1]]
    nobody = Candidates(np.empty((0, 3), dtype=np.int64), np.empty((0, 3)), np.empty(0, dtype=np.int64), np.array([0]))
    assert make_lists(section.steps, nobody, facts, 2).shape == (0, 2)
    padded = Candidates.of_one(np.array([2, -1, -1]), np.array([0.5, -np.inf, -np.inf]))
    assert make_lists(section.steps, padded, facts, 2).tolist() == [[0, -1]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": [{"kind": "mrm", "diversity": 0.2}]}, "kind 'mrm' (str). Did you mean 'mmr'?"),
        ({"steps": [{"kind": "mmr", "diversity": 1.2}]}, "steps[0].diversity: 1.2 is out of range"),
        ({"steps": [{"kind": "mmr"}]}, "steps[0].diversity: missing"),
        ({"steps": [{"kind": "cap", "field": "brand", "most": 0}]}, "steps[0].most: 0 is out of range"),
        ({"steps": [{"kind": "exposure", "field": "a", "values": [], "share": 0.2}]}, "steps[0].values: name at least"),
        ({"steps": [{"kind": "freshness", "strength": 0.1, "half_life_days": 0}]}, "half_life_days: 0.0 is out"),
        ({"steps": [{"kind": "mmr", "diversity": 0.6}, {"kind": "calibration", "field": "a", "strength": 0.6}]},
         "steps: the strengths sum to 1.2"),
        ({"candidates": 0}, "candidates: 0 is out of range"),
        ({"steps": [{"kind": "hard_cap", "field": "a", "most": 1}]}, "steps[0].kind: unknown kind"),
    ],
)  # fmt: skip
def test_bad_sections_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_section(Reranking, values)
    assert message in str(error.value)


def test_a_file_is_read_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "diverse.yaml"
    path.write_text("candidates: 50\nsteps:\n  - {kind: mmr, diversity: 0.2}\n", encoding="utf-8")
    assert read_reranking(path) == Reranking(candidates=50, steps=(Mmr(diversity=0.2),))
    assert [Reranking(candidates=50).num_candidates(k) for k in (10, 25, 30)] == [50, 50, 60]
    path.write_text("candidate: 50\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"diverse.yaml: candidate: unknown key. Did you mean 'candidates'"):
        read_reranking(path)


def test_what_is_not_known_is_named() -> None:
    world = World(0)
    with pytest.raises(InputError, match=r"items have no field 'kin'. Did you mean 'kind'\? There are kind"):
        world.make({"kind": "cap", "field": "kin", "most": 1})
    with pytest.raises(InputError, match=r"items have no field 'when'. There are out"):
        world.make({"kind": "freshness", "strength": 0.5, "half_life_days": 1, "field": "when"})
    world.facts = TableFacts()
    with pytest.raises(InputError, match="there are no vectors of items; name a field"):
        world.make({"kind": "mmr", "diversity": 0.5})
    with pytest.raises(InputError, match=r"the run keeps none \(see data.item_fields\)|The run keeps none"):
        world.make({"kind": "mmr", "diversity": 0.5, "field": "kind"})


def test_candidates_that_cannot_be_are_refused() -> None:
    items, nothing = np.array([[0, 1]]), np.empty(0, dtype=np.int64)
    with pytest.raises(ValueError, match="shapes"):
        Candidates(items, np.array([[0.0]]), nothing, np.array([0, 0]))
    with pytest.raises(ValueError, match="1 users, but 0 histories"):
        Candidates(items, np.array([[1.0, 0.0]]), nothing, np.array([0]))
    with pytest.raises(ValueError, match="not finite"):
        Candidates(items, np.array([[1.0, np.nan]]), nothing, np.array([0, 0]))
    fine = Candidates.of_one(items[0], np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="at least 1 item"):
        make_lists([], fine, TableFacts(), 0)
    with pytest.raises(ValueError, match=r"sum to 1\.4"):
        make_lists([Mmr(diversity=0.7), Mmr(diversity=0.7)], fine, TableFacts(), 1)
