"""Penalties on popularity and on groups: values worked out by hand, groups, parts, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError, RecipeError, parse_section
from peftrec.data.item_group import read_item_groups
from peftrec.losses import Debias, DebiasConfig, ItemGroups, LossInputs, popularity_groups
from peftrec.losses.debias import group_parts
from peftrec.losses.debias_config import GroupPenaltyConfig

# Four items of the catalogue; the second has no training events and is no candidate.
COUNTS = np.array([8, 0, 1, 3])
ITEMS = torch.tensor([0, 2, 3])
GROUPS = ItemGroups(("a", "b"), np.array([0, 1, 1, 0]))


def make_inputs() -> LossInputs:
    """Two positions whose softmax over the three candidates is (5, 2, 1) / 8 and (1, 1, 2) / 4."""
    return LossInputs(
        queries_PD=torch.eye(2, dtype=torch.float64).requires_grad_(),
        candidates_CD=torch.tensor([[5.0, 1.0], [2.0, 1.0], [1.0, 2.0]], dtype=torch.float64).log(),
        bias_C=None,
        targets_P=torch.tensor([2, 1]),
        rows_P=torch.tensor([0, 1]),
        seen_BS=torch.tensor([[-1], [-1]]),
        past_P=torch.tensor([0, 0]),
    )


def config(**values: Any) -> DebiasConfig:
    return parse_section(DebiasConfig, values)


EXPOSURE = [(5 / 8 + 1 / 4) / 2, (2 / 8 + 1 / 4) / 2, (1 / 8 + 2 / 4) / 2]
POPULARITY = (
    EXPOSURE[0] * math.log(8) + EXPOSURE[1] * math.log(1) + EXPOSURE[2] * math.log(3) - (math.log(3) + math.log(1)) / 2
)


def test_popularity_by_hand() -> None:
    found = Debias(config(popularity={"weight": 0.3}), COUNTS).penalty(make_inputs(), ITEMS)
    assert float(found.detach()) == pytest.approx(0.3 * POPULARITY, rel=1e-6)


@pytest.mark.parametrize(
    ("part", "parts"), [("uniform", (0.5, 0.5)), ("catalogue", (2 / 3, 1 / 3)), ("training", (11 / 12, 1 / 12))]
)
def test_groups_by_hand(part: str, parts: tuple[float, float]) -> None:
    section = config(groups={"weight": 2, "column": "any", "part": part})
    found = Debias(section, COUNTS, GROUPS).penalty(make_inputs(), ITEMS)
    shown = (EXPOSURE[0] + EXPOSURE[2], EXPOSURE[1])
    expected = sum((one - other) ** 2 for one, other in zip(shown, parts, strict=True))
    assert float(found.detach()) == pytest.approx(2 * expected, rel=1e-6)
    assert section.groups is not None
    assert group_parts(section.groups, GROUPS, COUNTS).tolist() == pytest.approx(parts)


def test_both_add_up_and_the_gradient_flows() -> None:
    inputs = make_inputs()
    groups = {"weight": 2.0, "column": "any"}
    parts = [
        Debias(config(popularity={"weight": 0.3}), COUNTS).penalty(inputs, ITEMS),
        Debias(config(groups=groups), COUNTS, GROUPS).penalty(inputs, ITEMS),
    ]
    both = Debias(config(popularity={"weight": 0.3}, groups=groups), COUNTS, GROUPS)
    torch.testing.assert_close(both.penalty(inputs, ITEMS), parts[0] + parts[1])

    def compute(queries: torch.Tensor) -> torch.Tensor:
        return both.penalty(LossInputs(**{**vars(inputs), "queries_PD": queries}), ITEMS)

    assert torch.autograd.gradcheck(compute, [inputs.queries_PD])


def test_items_without_a_value_keep_their_share_of_events() -> None:
    groups = ItemGroups(("a", "b", "(no value)"), np.array([0, 2, 1, 2]), unknown=2)
    section = GroupPenaltyConfig(weight=1, column="any", part="uniform")
    assert group_parts(section, groups, COUNTS).tolist() == pytest.approx([3 / 8, 3 / 8, 1 / 4])
    section = GroupPenaltyConfig(weight=1, column="any", part="training")
    assert group_parts(section, groups, COUNTS).tolist() == pytest.approx([8 / 12, 1 / 12, 3 / 12])


def test_a_group_that_is_never_a_candidate_has_no_part() -> None:
    groups = ItemGroups(("a", "b", "c"), np.array([0, 2, 1, 0]))
    for part in ("uniform", "catalogue", "training"):
        parts = group_parts(GroupPenaltyConfig(weight=1, column="any", part=part), groups, COUNTS)  # type: ignore[arg-type]
        assert parts[2] == 0
        assert parts.sum() == pytest.approx(1)
    with pytest.raises(InputError, match=r"debias\.groups: all items that have training events are of one group \('a'"):
        group_parts(GroupPenaltyConfig(weight=1, column="any"), ItemGroups(("a", "b"), np.array([0, 1, 0, 0])), COUNTS)
    unknown = ItemGroups(("(no value)",), np.zeros(4, dtype=np.int64), unknown=0)
    with pytest.raises(InputError, match="of one group"):
        group_parts(GroupPenaltyConfig(weight=1, column="any"), unknown, COUNTS)


def test_bins_of_popularity_by_hand() -> None:
    counts = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8])
    groups = popularity_groups(counts, 4)
    assert groups.group_N.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert groups.names == ("1 to 2 events", "3 to 4 events", "5 to 6 events", "7 events and more")
    # Equals share a bin; what that empties is left out.
    groups = popularity_groups(np.array([1, 1, 1, 1, 1, 1, 9, 9]), 4)
    assert groups.group_N.tolist() == [0] * 6 + [1, 1]
    assert groups.names == ("1 to 8 events", "9 events and more")
    assert popularity_groups(np.array([2, 2, 2]), 3).names == ("2 events and more",)


def test_groups_from_a_column(toy_data: Path, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text((toy_data / "interactions.csv").read_text())
    lines = (toy_data / "items.csv").read_text().splitlines()
    lines = [lines[0] + ",shop", *(f"{line},{' east ' if n % 2 else 'west' if n % 3 else ''}"
                                   for n, line in enumerate(lines[1:]))]  # fmt: skip
    (tmp_path / "items.csv").write_text("\n".join([*lines, "wine0,again,tea,north"]) + "\n")
    data = make_recipe(data=tmp_path).data
    names, groups = read_item_groups(data, "shop", ["wine1", "wine2", "wine0", "gone"], key="debias.groups.column")
    assert names == ("east", "west")
    assert groups.tolist() == [0, 1, -1, -1]
    names, groups = read_item_groups(data, "category", ["tea1", "wine0", "bread3"], key="k")
    assert [names[group] for group in groups] == ["tea", "wine", "bread"]
    with pytest.raises(
        InputError, match=r"no column 'shopp' \(named by debias\.groups\.column\)\. Did you mean 'shop'"
    ):
        read_item_groups(data, "shopp", ["wine1"], key="debias.groups.column")
    with pytest.raises(InputError, match=r"debias\.groups\.column: 'a:b' cannot be read as a column"):
        read_item_groups(data, "a:b", ["wine1"], key="debias.groups.column")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("debias={}", "debias: names nothing; give propensity, popularity or groups"),
        ("debias.popularity={}", r"debias\.popularity\.weight: missing"),
        ("debias.popularity.weight=0", r"debias\.popularity\.weight: 0\.0 is out of range"),
        ("debias.groups={weight: 1}", r"debias\.groups: groups come from column or from popularity_bins"),
        ("debias.groups={weight: 1, column: a, popularity_bins: 3}", "give one of the two"),
        ("debias.groups={weight: 1, column: a, part: equal}", r"debias\.groups\.part: 'equal'"),
        ("debias.groups={weight: 1, popularity_bins: 1}", r"popularity_bins: 1 is out of range"),
    ],
)
def test_sections_that_are_refused(override: str, message: str, make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(override)
