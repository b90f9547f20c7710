"""Every user encoder and scorer learns what it can learn on toy data, from a start that it does not lose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.models import USER_ENCODERS
from peftrec.run import train

LONG = (
    "method.kind=frozen", "training.num_epochs=6", "training.metric=hr@1", "evaluation.ks=[1,10]",
    "optimizer.head_learning_rate=0.02",
)  # fmt: skip
# What each kind reaches at the least; the start has .33. A mean cannot know which of a ring of items comes next.
USERS = {
    "transformer": [("num_heads: 2", 0.8), ("num_heads: 2, positions: learned", 0.8)],
    "hstu": [("num_heads: 2", 0.8)],
    "gru": [("", 0.8)],
    "attention": [("", 0.6), ("pooling: multi_head", 0.6)],
}


def test_every_kind_is_here() -> None:
    assert {*USERS, "mean"} == set(USER_ENCODERS.kinds())


@pytest.mark.parametrize(
    ("kind", "settings", "least"), [(kind, *variant) for kind, variants in USERS.items() for variant in variants]
)
def test_user_encoders_learn(
    kind: str, settings: str, least: float, make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe(*LONG, f"user={{kind: {kind}, dropout: 0, {settings}}}", output_dir=tmp_path / "run")
    metrics = train(recipe)
    assert metrics["training"]["start"]["hr@1"] < 0.4
    assert metrics["training"]["best_metric"] > least


def test_a_network_behind_the_dot_product_learns_what_a_mean_cannot_say(
    make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    best = {}
    for scorer in ("cosine", "mlp"):
        overrides = ("user={kind: mean, learned: true}", f"scorer.kind={scorer}")
        metrics = train(make_recipe(*LONG, *overrides, output_dir=tmp_path / scorer))
        best[scorer] = metrics["training"]["best_metric"]
    assert best["mlp"] > best["cosine"] + 0.1


def write_timed(folder: Path) -> Path:
    """Write events of which only times tell the next: one item on after a minute, five items on after a month."""
    generator = np.random.default_rng(0)
    rows = ["user_id,item_id,timestamp"]
    for user in range(300):
        item, now, step = int(generator.integers(12)), 1_600_000_000, 1
        for _ in range(9):
            rows.append(f"u{user},i{item},{now}")
            item = (item + step) % 12
            gap, step = ((60, 1), (30 * 86_400, 5))[int(generator.integers(2))]
            now += gap
    folder.mkdir()
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    (folder / "items.csv").write_text("item_id,title,category\n" + "".join(f"i{n},{n},x\n" for n in range(12)))
    return folder


@pytest.mark.parametrize("kind", ["transformer", pytest.param("hstu", marks=pytest.mark.slow)])
def test_what_only_times_tell_is_learned(kind: str, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    data = write_timed(tmp_path / "data")
    found = {}
    for times in ("true", "false"):
        recipe = make_recipe(
            "encoder={inputs: ids, embedding_dim: 16, id_std: 0.3}", "evaluation={ks: [1], exclude_history: false}",
            "training.metric=hr@1", "training.num_epochs=20",
            "loss={kind: full_softmax, mask_seen: none, skip_repeats: false}",
            f"user={{kind: {kind}, num_heads: 2, dropout: 0, time_intervals: {times}}}",
            "optimizer.head_learning_rate=0.02", "optimizer.id_learning_rate=0.02",
            output_dir=tmp_path / times, data=data,
        )  # fmt: skip
        found[times] = train(recipe)["test"]["model"]["metrics"]["hr@1"]
    assert found["false"] < 0.65
    assert found["true"] > 0.9


def test_vectors_train_with_a_second_stage_as_without(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    """An index over item vectors is the one that the cosine scorer would have."""
    found = {}
    for scorer in ("cosine", "mlp"):
        prepared = prepare(make_recipe("training.num_epochs=2", "method.kind=frozen", f"scorer.kind={scorer}"))
        prepared.trainer.train()
        found[scorer] = prepared
    plain, second = (found[scorer].record.gradients for scorer in ("cosine", "mlp"))
    assert len(plain) == len(second) > 1
    for one, other in zip(plain, second, strict=True):
        assert {name for name in other if name not in one} == {
            f"second_stage.{name}"
            for name in ("user.weight", "user.bias", "item.weight", "product.weight", "out.weight")
        }
        for name, gradient in one.items():
            assert torch.equal(other[name], gradient), name
    for name, gradient in second[-1].items():
        assert gradient is not None
        assert bool(gradient.any()) or "second_stage" not in name, name
