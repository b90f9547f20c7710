"""Where negatives come from: frequencies by hand, and settings that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from peftrec.config import RecipeError, parse_section
from peftrec.losses import LOSSES, NEGATIVES, DrawnNegatives

COUNTS = np.array([4, 0, 1, 9])


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("uniform", {}, [1 / 3, 0, 1 / 3, 1 / 3]),
        ("hard", {}, [1 / 3, 0, 1 / 3, 1 / 3]),
        ("popularity", {"power": 1.0}, [4 / 14, 0, 1 / 14, 9 / 14]),
        ("popularity", {"power": 0.5}, [2 / 6, 0, 1 / 6, 3 / 6]),
        # Without a power an item that nobody has touched is still not drawn.
        ("popularity", {"power": 0.0}, [1 / 3, 0, 1 / 3, 1 / 3]),
    ],
)
def test_frequencies_by_hand(kind: str, settings: dict[str, float], expected: list[float]) -> None:
    found = NEGATIVES.load(kind)(**settings).frequencies(COUNTS)
    assert found == pytest.approx(expected)
    assert found.dtype == np.float64


@pytest.mark.parametrize("kind", NEGATIVES.kinds())
def test_what_a_source_makes_a_step_encode(kind: str) -> None:
    source = NEGATIVES.load(kind)()
    assert source.candidates == {"batch": "batch", "catalogue": "catalogue"}.get(kind, "sampled")
    assert isinstance(source, DrawnNegatives) == (source.candidates == "sampled")
    for loss in ("bpr", "bce", "gbce"):
        assert LOSSES.load(loss)(negatives=source).candidates == source.candidates


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("sampled_softmax", {"negatives": {"kind": "batch"}},
         r"loss\.negatives\.kind: 'batch' draws none; that loss is loss\.kind=in_batch_softmax"),
        ("sampled_softmax", {"negatives": {"kind": "catalogue"}}, r"loss\.kind=full_softmax"),
        ("sampled_softmax", {"negatives": {"kind": "uniform", "num": 0}}, r"loss\.negatives\.num: 0 is out of range"),
        ("bpr", {"negatives": {"kind": "uniform", "power": 0.5}}, r"loss\.negatives\.power: unknown key"),
        ("bpr", {"negatives": {"kind": "hrad"}}, r"loss\.negatives\.kind: unknown kind 'hrad'.* Did you mean 'hard'"),
        ("bpr", {"negatives": {"kind": "hard", "per_user": 9, "depth": 4}},
         r"loss\.negatives\.depth: 4 is fewer than per_user, 9"),
        ("bpr", {"per_position": 0}, r"loss\.per_position: 0 is out of range"),
        ("gbce", {"calibration": 1.5}, r"loss\.calibration: 1.5 is out of range"),
        ("squared_error", {"l2": -1.0}, r"loss\.l2: -1.0 is out of range"),
    ],
)  # fmt: skip
def test_what_is_refused(kind: str, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        parse_section(LOSSES.load(kind), settings, path="loss")
