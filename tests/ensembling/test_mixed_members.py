"""Ensembles whose members read different things of a user: times, attributes, nothing but the order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec import InputError, Recommender, ensemble, evaluate
from peftrec.publishing import load_run
from peftrec.retrieval.fusion import standardised
from peftrec.run import train

FAST = ("method.kind=frozen", "training.num_epochs=1")
MEMBERS = {
    "timed": ("user={kind: hstu, num_heads: 2, time_intervals: true}", "scorer={kind: mlp, num_candidates: 12}"),
    "plain": ("user.kind=gru", "loss={kind: bce, negatives: {kind: catalogue}}"),
    "popular": ("baseline.kind=popularity",),
}
HISTORY = ["wine0", "wine1", "wine2"]
SECONDS = [0, 1000, 900_000]


@pytest.fixture(scope="module")
def data(write_toy: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data with a table of users."""
    folder = write_toy(tmp_path_factory.mktemp("mixed"))
    events = [row.split(",") for row in (folder / "interactions.csv").read_text().splitlines()[1:]]
    jobs = {user: item[:-1] for user, item, _ in events}
    rows = "\n".join(f"{user},{job}" for user, job in jobs.items())
    (folder / "users.csv").write_text(f"user_id,job\n{rows}\n")
    return folder


@pytest.fixture(scope="module")
def mixed(data: Path, make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of all of them; read only."""
    root = tmp_path_factory.mktemp("run")
    columns = ("data.users=users.csv", "data.user_attributes={job: {kind: categorical, min_count: 1}}")
    for name, overrides in MEMBERS.items():
        fast = () if name == "popular" else FAST
        train(make_recipe(*columns, *fast, *overrides, data=data, output_dir=root / name))
    ensemble([root / name for name in MEMBERS], root / "all", weights=[1, 2, 1])
    return root


def test_members_are_measured_as_they_measured_themselves(mixed: Path) -> None:
    for split in ("valid", "test"):
        found = evaluate(mixed / "all", split=split)
        assert found["same_data"]
        for place, name in enumerate(MEMBERS, start=1):
            own = json.loads((mixed / name / "metrics.json").read_text())[split]["model"]
            assert found[f"{place}_{name}"]["metrics"] == pytest.approx(own["metrics"])


def test_members_are_told_what_each_reads(mixed: Path) -> None:
    recommender = Recommender.from_pretrained(mixed / "all")
    told = {"times": SECONDS, "user_attributes": {"job": "cheese"}}
    found = recommender.recommend(HISTORY, k=50, exclude_history=False, **told)
    items = recommender.catalogue.index([entry.item_id for entry in found])
    scores = np.empty(len(items))
    scores[items] = [entry.score for entry in found]
    parts = [own_scores(mixed / name, told, len(items)) for name in MEMBERS]
    expected = sum(weight / 4 * standardised(part) for weight, part in zip((1, 2, 1), parts, strict=True))
    torch.testing.assert_close(torch.from_numpy(scores).float(), expected[0], rtol=1e-4, atol=1e-5)
    other = recommender.recommend(HISTORY, k=50, times=[0, 1, 2], user_attributes={"job": "tea"})
    assert [entry.score for entry in other] != [entry.score for entry in found][: len(other)]
    with pytest.raises(InputError, match="times"):
        recommender.recommend(HISTORY)


def own_scores(folder: Path, told: dict[str, Any], num_items: int) -> torch.Tensor:
    recommender = Recommender.from_pretrained(folder)
    known = dict(told)
    run = load_run(folder)
    if run.model is None:
        known = {}
    elif not run.model.needs_times:
        del known["times"]
    found = recommender.recommend(HISTORY, k=num_items, exclude_history=False, **known)
    scores = torch.empty(1, num_items)
    scores[0, recommender.catalogue.index([entry.item_id for entry in found])] = torch.tensor(
        [entry.score for entry in found]
    )
    return scores


def test_weights_are_chosen_with_all_that_members_read(mixed: Path, tmp_path: Path) -> None:
    metrics = ensemble([mixed / "timed", mixed / "plain"], tmp_path / "two", weights="auto")
    tried = metrics["ensemble"]["chosen_on"]["tried"]
    best = max(row["ndcg@10"] for row in tried)
    assert metrics["valid"]["model"]["metrics"]["ndcg@10"] == pytest.approx(best)


def test_data_with_other_times_are_refused(mixed: Path, data: Path, write_toy: Any, tmp_path: Path) -> None:
    other = write_toy(tmp_path / "other")
    (other / "users.csv").write_text((data / "users.csv").read_text())
    lines = (other / "interactions.csv").read_text().splitlines()
    moved = [lines[0]] + [
        f"{user},{item},{int(time) * 2}" for user, item, time in (row.split(",") for row in lines[1:])
    ]
    (other / "interactions.csv").write_text("\n".join(moved) + "\n")
    runs = [mixed / "plain", mixed / "timed"]
    with pytest.raises(InputError, match=r"does not hold the data that .*timed was trained on"):
        ensemble(runs, tmp_path / "two", overrides=[f"data.root={other}"])


def test_other_settings_of_the_data_are_named(mixed: Path, data: Path, make_recipe: Any, tmp_path: Path) -> None:
    train(make_recipe("baseline.kind=popularity", data=data, output_dir=tmp_path / "other"))
    pattern = r"read with other settings \(data\.user_attributes, data\.users\)"
    with pytest.raises(InputError, match=pattern):
        ensemble([mixed / "plain", tmp_path / "other"], tmp_path / "two")
    with pytest.raises(InputError, match=r"or train with equal settings \(data\.user_attributes, data\.users\)"):
        ensemble([mixed / "timed", tmp_path / "other"], tmp_path / "two")
