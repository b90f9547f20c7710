"""Runs that read when events happened, with a scorer of two stages: trained, saved, reloaded, recommended from."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.cli import main
from peftrec.config import InputError, RecipeError, dump_yaml, read_yaml
from peftrec.evaluating import evaluate
from peftrec.publishing import load_run
from peftrec.publishing.manifest import file_table, read_manifest
from peftrec.publishing.probe import check_probes
from peftrec.recommender import Recommender
from peftrec.run import train

TIMED = (
    "method.kind=frozen",
    "user.time_intervals=true",
    "training.num_epochs=3",
    "optimizer.head_learning_rate=0.05",
    "scorer={kind: mlp, num_candidates: 12, hidden_dim: 8}",
)
HISTORY = ["wine0", "wine1", "wine2"]
SECONDS = [1_600_000_000, 1_600_000_090, 1_600_900_000]


@pytest.fixture(scope="module")
def timed(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a transformer with time intervals and a scorer of two stages."""
    folder = tmp_path_factory.mktemp("timed") / "run"
    train(make_recipe(*TIMED, output_dir=folder))
    return folder


def test_a_reloaded_run_gives_the_same(timed: Path) -> None:
    stored = json.loads((timed / "metrics.json").read_text())
    run = load_run(timed)
    assert run.model is not None
    assert run.model.needs_times
    assert bool(run.model.user_encoder.blocks[0].time_bias.any())
    assert bool(run.model.second_stage.out.weight.any())
    for split in ("valid", "test"):
        again = evaluate(run, split=split)
        assert again["same_data"]
        assert again["model"]["metrics"] == pytest.approx(stored[split]["model"]["metrics"])


def test_times_reach_the_list(timed: Path) -> None:
    recommender = Recommender.from_pretrained(timed)
    found = recommender.recommend(HISTORY, k=5, times=SECONDS)
    other = recommender.recommend(HISTORY, k=5, times=[0, 1000, 2000])  # gaps of the data: their buckets have learned
    assert [entry.score for entry in found] != [entry.score for entry in other]
    moments = [datetime.datetime.fromtimestamp(second, datetime.UTC) for second in SECONDS]
    for times in (moments, [moment.isoformat() for moment in moments], [second * 1000 for second in SECONDS]):
        assert recommender.recommend(HISTORY, k=5, times=times) == found
    # Only what lies between them counts.
    assert recommender.recommend(HISTORY, k=5, times=[second + 86_400 for second in SECONDS]) == found
    both = recommender.recommend_batch([["tea1"], HISTORY, []], k=5, times=[[5], SECONDS, []])
    assert [entry.item_id for entry in both[1]] == [entry.item_id for entry in found]
    assert [e.score for e in both[1]] == pytest.approx([e.score for e in found], abs=1e-4)
    # Nothing lies between the events of a history that has one or none.
    assert recommender.recommend(["tea1"], k=5) == recommender.recommend(["tea1"], k=5, times=[77])
    assert len(recommender.recommend([], k=5)) == 5
    recommender.add_items(["new"], ["iced green tea. tea"])
    assert len(recommender.recommend(["wine0", "new"], k=4, times=[0, 5])) == 4


def test_audiences_know_times(timed: Path) -> None:
    recommender = Recommender.from_pretrained(timed)
    histories = {"a": HISTORY, "b": ["tea0", "tea1"], "c": ["tea4"]}
    times = {"a": SECONDS, "b": [1, 900], "c": [1]}
    expected = {}
    for name, history in histories.items():
        ranks = {e.item_id: e.rank for e in recommender.recommend(history, k=100, times=times[name])}
        expected[name] = ranks["tea9"]
    assert dict(recommender.audience("tea9", histories, times=times)) == expected
    with pytest.raises(InputError, match="a history of 3 items needs its times"):
        recommender.audience("tea9", histories)
    with pytest.raises(InputError, match="one time for each item"):
        recommender.audience("tea9", histories, times={"a": SECONDS})


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (None, r"this run reads how much time lies between events \(user\.time_intervals\), so a history of 3 items"),
        ([1, 2], "there must be one time for each item of each history"),
        ("123", "there must be one time for each item of each history"),
        ([1, 2, "soon"], r"times: place 3 holds 'soon'; a time must be a number"),
        ([1, 2, ""], "times: an empty one is no time"),
        ([1, float("nan"), 2], "times: an empty one is no time"),
        ([5, 9, 7], "histories are oldest first, but 7 comes after 9"),
        ([5, 1_600_000_000_000, 1_600_000_000_001], r"mixed units: .*, but place 1 holds 5"),
    ],
)
def test_times_that_cannot_be_used(timed: Path, times: Any, expected: str) -> None:
    recommender = Recommender.from_pretrained(timed, verify=False)
    with pytest.raises(InputError, match=expected):
        recommender.recommend(HISTORY, times=times)


def test_the_command_line_takes_times(timed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = Recommender.from_pretrained(timed).recommend(HISTORY, k=3, times=SECONDS)
    words = ["recommend", str(timed), "--history", ",".join(HISTORY), "--k", "3", "--json"]
    assert main([*words, "--times", ",".join(map(str, SECONDS))]) == 0
    assert [row["item_id"] for row in json.loads(capsys.readouterr().out)] == [entry.item_id for entry in expected]
    assert main(words) != 0
    assert "needs its times" in capsys.readouterr().err


def test_times_are_refused_where_nothing_reads_them(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(make_recipe("method.kind=frozen", "training.num_epochs=1", output_dir=tmp_path / "run"))
    with pytest.raises(InputError, match=r"this run reads none \(its recipe has no user\.time_intervals: true\)"):
        Recommender.from_pretrained(tmp_path / "run").recommend(HISTORY, times=SECONDS)


@pytest.mark.parametrize("user", ["transformer", "hstu"])
def test_an_order_is_refused_when_the_recipe_is_read(user: str, make_recipe: Callable[..., Any]) -> None:
    overrides = (f"user={{kind: {user}, num_heads: 2, time_intervals: true}}", "data.timestamps=order")
    with pytest.raises(RecipeError, match=r"user\.time_intervals: true needs times, but data\.timestamps is 'order'"):
        make_recipe(*overrides)
    # What a baseline does not read is no error.
    assert not make_recipe(*overrides, "baseline.kind=popularity").reads_times
    assert not make_recipe("data.timestamps=order").reads_times


def test_times_that_nothing_would_read_are_refused(make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match=r"user\.time_intervals: true is read by nothing with profile\.fusion: alone"):
        make_recipe("user.time_intervals=true", "profile={method: null, fusion: alone}")
    assert make_recipe("user.time_intervals=true", "profile={method: null, fusion: add}").reads_times


def test_data_without_times_are_refused(
    make_recipe: Callable[..., Any], toy_dataset: Any, timed: Path, tmp_path: Path
) -> None:
    ordered = dataclasses.replace(toy_dataset, sequences=dataclasses.replace(toy_dataset.sequences, times=None))
    with pytest.raises(
        InputError, match=r"user\.time_intervals: true needs times, but this data set has only an order"
    ):
        train(make_recipe(*TIMED, output_dir=tmp_path / "run"), dataset=ordered)
    with pytest.raises(InputError, match="was given no times"):
        evaluate(timed, dataset=ordered)


def test_other_times_are_other_data_only_where_they_are_read(toy_dataset: Any, timed: Path) -> None:
    sequences = toy_dataset.sequences
    later = dataclasses.replace(toy_dataset, sequences=dataclasses.replace(sequences, times=sequences.times * 2))
    assert later.content_hash() == toy_dataset.content_hash()
    assert later.content_hash(times=True) != toy_dataset.content_hash(times=True) != toy_dataset.content_hash()
    found = evaluate(timed, dataset=later)
    assert not found["same_data"]
    assert found["leaks"].startswith("These are NOT the events that the run was trained on")


def test_folders_written_before_there_were_options_load(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    """Their recipes name none of them."""
    train(make_recipe("method.kind=frozen", "training.num_epochs=1", output_dir=tmp_path / "run"))
    expected = Recommender.from_pretrained(tmp_path / "run").recommend(HISTORY)
    manifest, values = read_manifest(tmp_path / "run"), read_yaml(tmp_path / "run" / "recipe.yaml")
    assert [values["user"].pop(name) for name in ("positions", "time_intervals")] == ["distance", False]
    (tmp_path / "run" / "recipe.yaml").write_text(dump_yaml(values))
    dataclasses.replace(manifest, files=file_table(tmp_path / "run"), recipe=values).write(tmp_path / "run")
    assert Recommender.from_pretrained(tmp_path / "run").recommend(HISTORY) == expected


def test_probes_notice_a_lost_time_bias(timed: Path) -> None:
    run = load_run(timed)
    assert run.model is not None
    check_probes(timed, run.model, len(run.catalogue))
    with torch.no_grad():
        run.model.user_encoder.blocks[0].time_bias.zero_()
    with pytest.raises(InputError, match="does not give the scores that were stored"):
        check_probes(timed, run.model, len(run.catalogue))
