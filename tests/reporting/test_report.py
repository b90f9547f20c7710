"""The full evaluation of a run: what it tells, what it writes and where, and what it refuses."""

from __future__ import annotations

import csv
import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from peftrec.comparing import compare
from peftrec.config import InputError, RecipeError
from peftrec.evaluating import evaluate
from peftrec.publishing import load_run
from peftrec.reporting import report
from peftrec.run import train

RULES = (
    "evaluation.ks=[5,10]",
    "evaluation.category=category",
    "data.item_groups=[category]",
    "data.user_groups=[sex]",
)


def add_users(folder: Path) -> Path:
    """Write a table of users, of whom two have no value."""
    with (folder / "interactions.csv").open(encoding="utf-8") as file:
        users = list(dict.fromkeys(row["user_id"] for row in csv.DictReader(file)))
    rows = [f"{user},{'' if number < 2 else 'fm'[number % 2]}" for number, user in enumerate(users)]
    (folder / "users.csv").write_text("user_id,sex\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(
    make_recipe: Callable[..., Any], write_toy: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("report")
    recipe = make_recipe(
        "training.num_epochs=1", "data.users=users.csv", *RULES, data=add_users(write_toy(folder / "data")),
        output_dir=folder / "run",
    )  # fmt: skip
    train(recipe)
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def told(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report(trained, output=tmp_path_factory.mktemp("told"))


def test_ranks_are_those_of_evaluate(trained: Path, told: dict[str, Any]) -> None:
    plain = evaluate(trained)
    for name in ("model", "popularity", "content_knn"):
        assert plain[name]["metrics"].items() <= told[name]["metrics"].items()
        for key in ("auc", "novelty@5", "diversity@10", "category_diversity@10", "calibration@10"):
            assert key in told[name]["metrics"]
        assert {"coverage@5", "gini@10"} <= set(told[name]["overall"])


def test_slices_cover_the_cases(told: dict[str, Any]) -> None:
    kinds: dict[str, int] = {}
    for row in told["slices"]:
        kinds[row["kind"]] = kinds.get(row["kind"], 0) + row["num_cases"]
    assert kinds["target"] == kinds["history"] == kinds["target's category"] == kinds["user's sex"] == 60
    # Of two users nothing is known; results of so few people are not told, nor can they be worked out.
    names = {row["name"] for row in told["slices"] if row["kind"] == "user's sex"}
    assert names in ({"f", "m or unknown"}, {"m", "f or unknown"})


def test_slices_average_to_the_whole(told: dict[str, Any]) -> None:
    rows = [row for row in told["slices"] if row["kind"] == "target's category"]
    for model in ("model", "popularity"):
        values = [row["rows"][model]["metrics"]["ndcg@5"] for row in rows]
        whole = np.average(values, weights=[row["num_users"] for row in rows])
        assert whole == pytest.approx(told[model]["metrics"]["ndcg@5"])


def test_gaps_are_between_the_groups_of_a_column(told: dict[str, Any]) -> None:
    gaps = {(row["kind"], row["model"], row["metric"]): row for row in told["gaps"]}
    row = gaps["user's sex", "popularity", "ndcg@5"]
    means = {
        part["name"]: part["rows"]["popularity"]["metrics"]["ndcg@5"]
        for part in told["slices"]
        if part["kind"] == "user's sex" and part["num_users"] >= 20
    }
    assert row["difference"] == pytest.approx(max(means.values()) - min(means.values()))
    assert row["best_mean"] == max(means.values())
    assert means[row["worst"]] == min(means.values())


def test_exposure_and_its_curve(told: dict[str, Any]) -> None:
    shares = [row["shares"]["model"] for row in told["exposure"] if row["kind"] == "category"]
    assert sum(shares) == pytest.approx(1.0)
    for curve in told["exposure_curve"].values():
        assert curve[0] == (0.0, 0.0)
        assert curve[-1] == (1.0, 1.0)
    assert sum(entry["num_cases"] for entry in told["popularity_curve"]) == 60


def test_the_run_folder_gets_it_and_still_loads(run: Path) -> None:
    found = report(run)
    assert json.loads((run / "metrics.json").read_text())["test"]["slices"] == json.loads(json.dumps(found["slices"]))
    assert {Path(name).name for name in found["written"]} == {
        "README.md", "metrics.json", "report_test.html", "report_test.md",
        "popularity.svg", "exposure.svg", "slices.svg",
    }  # fmt: skip
    card = (run / "README.md").read_text()
    assert "popularity_lift@10" in card
    assert "Not measured" not in card.partition("## By kind of item and user")[2].partition("## Intended use")[0]
    load_run(run)
    again = report(run)
    assert again["model"] == found["model"]
    load_run(run)
    frame = pl.read_parquet(run / "private" / "test_model.parquet")
    assert {"rank", "ndcg@5", "auc", "novelty@10", "calibration@5"} <= set(frame.columns)


def test_validation_stands_beside_test(run: Path) -> None:
    report(run)
    report(run, split="valid")
    stored = json.loads((run / "metrics.json").read_text())
    assert stored["valid"]["slices"]
    assert stored["test"]["slices"]
    assert (run / "report_valid.html").is_file()


def test_other_rules_do_not_stand_in_the_run(run: Path, tmp_path: Path) -> None:
    before = (run / "metrics.json").read_bytes()
    found = report(run, overrides=["evaluation.ks=[3]"])
    assert found["written"] == []
    assert (run / "metrics.json").read_bytes() == before
    elsewhere = report(run, overrides=["evaluation.ks=[3]"], output=tmp_path / "out")
    assert (tmp_path / "out" / "report_test.html").is_file()
    assert len(elsewhere["written"]) == 6
    assert "hr@3" in (tmp_path / "out" / "report_test.md").read_text()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_nothing_is_written_where_nothing_may_be(run: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, "not here")

    monkeypatch.setattr("peftrec.publishing.revision.replace_text", refuse)
    before = (run / "private" / "test_model.parquet").read_bytes()
    assert report(run)["written"] == []
    assert (run / "private" / "test_model.parquet").read_bytes() == before


@pytest.mark.parametrize("more", [(), ("evaluation.propensity={power: 0.5}",)])
@pytest.mark.parametrize("ks", ["[1]", "[3,1000]"])
def test_any_cutoff(run: Path, tmp_path: Path, ks: str, more: tuple[str, ...]) -> None:
    # A list of one item has no diversity, and one of a thousand is as long as there are items.
    found = report(run, overrides=[f"evaluation.ks={ks}", *more], output=tmp_path / "out")
    page = (tmp_path / "out" / "report_test.html").read_text()
    for k in json.loads(ks):
        assert f"diversity@{k}" in found["model"]["metrics"]
        assert f"coverage@{k}" in page
    if ks == "[3,1000]":
        assert found["model"]["overall"]["coverage@1000"] == 1.0
    assert ("snips" in found["model"]) is bool(more)


def test_a_full_disk_is_an_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("peftrec.publishing.revision.replace_text", refuse)
    with pytest.raises(OSError, match="No space left"):
        report(run)
    load_run(run)


def test_a_run_is_no_output(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for folder in (run, shutil.copytree(run, tmp_path / "other")):
        with pytest.raises(RecipeError, match=rf"output: {folder} holds a run"):
            report(run, output=folder)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises(RecipeError, match="is a file"):
        report(run, output=run / "metrics.json")


def test_both_splits_go_into_one_output(run: Path, tmp_path: Path) -> None:
    report(run, split="valid", output=tmp_path / "out")
    report(run, output=tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / "metrics.json").read_text())) == {"valid", "test"}
    assert {path.name for path in (tmp_path / "out" / "private").iterdir()} == {
        f"{split}_{name}.parquet" for split in ("valid", "test") for name in ("model", "popularity", "content_knn")
    }
    (tmp_path / "out" / "metrics.json").write_text("[1]")
    with pytest.raises(InputError, match=r"metrics\.json: is damaged"):
        report(run, output=tmp_path / "out")


def test_evaluating_again_keeps_what_a_report_found(run: Path) -> None:
    report(run)
    path = run / "private" / "test_model.parquet"
    full = pl.read_parquet(path)
    evaluate(run)
    assert pl.read_parquet(path).select(full.columns).equals(full, null_equal=True)
    path.write_bytes(b"torn")
    evaluate(run)
    assert {"rank", "hr@5"} <= set(pl.read_parquet(path).columns)


def test_groups_of_the_command_line_do_not_stand_in_the_run(run: Path) -> None:
    before = (run / "metrics.json").read_bytes()
    found = report(run, overrides=["data.user_groups=[user_id]", "data.item_groups=[]"])
    assert found["written"] == []
    assert (run / "metrics.json").read_bytes() == before


def test_metrics_of_lists_are_compared_too(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    report(run)
    report(other)
    found = {line.test.metric: line.test for line in compare(run, other, metrics=["novelty@10", "diversity@5"]).tests}
    assert found["novelty@10"].difference == 0.0
    assert found["diversity@5"].p_value == 1.0


def test_other_metrics_of_ranks(run: Path) -> None:
    names = "hr,ndcg,mrr,recall,precision,map"
    metrics = report(run, overrides=[f"evaluation.metrics=[{names}]"])["model"]["metrics"]
    assert metrics["recall@5"] == metrics["hr@5"]
    assert metrics["map@5"] == metrics["mrr@5"]
    assert metrics["precision@10"] == pytest.approx(metrics["hr@10"] / 10)
    with pytest.raises(RecipeError, match=r"evaluation.*metrics: mrr, ndcg must be among them"):
        report(run, overrides=["evaluation.metrics=[hr]"])


def test_a_column_that_is_not_there(run: Path) -> None:
    with pytest.raises(InputError, match=r"items\.csv.*colour"):
        report(run, overrides=["data.item_groups=[colour]"])
    with pytest.raises(InputError, match=r"users\.csv.*colour"):
        report(run, overrides=["data.user_groups=[colour]"])


def test_user_columns_without_a_table_of_users(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    train(make_recipe("training.num_epochs=1", output_dir=tmp_path / "run"))
    with pytest.raises(InputError, match=r"data\.user_groups.*table"):
        report(tmp_path / "run", overrides=["data.user_groups=[sex]"])


def write_impressions(folder: Path, lines: list[str]) -> None:
    (folder / "impressions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_impressions_by_hand(trained: Path, tmp_path: Path) -> None:
    """Popularity ranks the clicked item above all, above none, and as one of two others."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    root = Path(shutil.copytree(trained.parent / "data", tmp_path / "data"))
    loaded = load_run(run)
    counts = dict(zip(loaded.catalogue.ids, loaded.train_counts_N.tolist(), strict=True))
    most, *_, least = sorted((item for item in counts if counts[item]), key=lambda item: -counts[item])
    middle = next(item for item in counts if counts[least] < counts[item] < counts[most])
    with (root / "interactions.csv").open(encoding="utf-8") as file:
        had: dict[str, set[str]] = {}
        for row in csv.DictReader(file):
            had.setdefault(row["user_id"], set()).add(row["item_id"])
    free = [next(user for user in had if item not in had[user]) for item in (most, least, middle)]
    trained_on = next(user for user in had if most in had[user])
    write_impressions(root, [
        f"1\t{free[0]}\t{least}\t{most}-1 {least}-0",
        f"2\t{free[1]}\t\t{least}-1 {most}-0 {middle}-0",
        f"3\t{free[2]}\t{most} gone\t{middle}-1 {most}-0 {least}-0 gone-0",
        f"4\tstranger\t{most}\t{least}-1 {most}-0",
        f"5\t{free[0]}\t{least}\t{most}-0 {least}-0",
        f"6\t{free[0]}\t{least}\t{most}-1",
        f"7\t{free[0]}\t{least}\tgone-1 {most}-0",
        "",
    ])  # fmt: skip
    found = report(run, overrides=["evaluation.impressions=impressions.tsv", f"data.root={root}"])["impressions"]
    users = len({free[0], free[1], free[2]})
    row = found["rows"]["popularity"]
    low, high = row.pop("intervals")["gauc"]
    assert low <= 0.5 <= high
    assert row == {
        "gauc": pytest.approx(0.5), "gauc_by_clicks": pytest.approx(0.5), "num_impressions": 3, "num_users": users,
    }  # fmt: skip
    assert found["left_out"] == {
        "unknown user": 1, "no click": 1, "clicks on unknown items alone": 1, "nothing but clicks": 1,
        "click in training": 0, "items that the catalogue lacks": 3, "candidates that are there twice": 0,
    }  # fmt: skip
    assert 0 <= found["rows"]["model"]["gauc"] <= 1
    write_impressions(root, [f"1\t{trained_on}\t{least}\t{most}-1 {least}-0"])
    with pytest.raises(
        InputError, match=r"impressions\.tsv: no impression can be ranked on test .*1 click in training"
    ):
        report(run, overrides=["evaluation.impressions=impressions.tsv", f"data.root={root}"])


def test_texts_of_the_data_are_escaped(run: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(load_run(run).recipe.data.root, tmp_path / "data"))
    text = (root / "users.csv").read_text().replace(",f\n", ",<script>|*x*\n")
    (root / "users.csv").write_text(text)
    report(run, overrides=[f"data.root={root}"], output=tmp_path / "out")
    page = (tmp_path / "out" / "report_test.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    markdown = (tmp_path / "out" / "report_test.md").read_text()
    assert "<script>" not in markdown
    plot = (tmp_path / "out" / "report_test" / "slices.svg").read_text()
    assert "<script>" not in plot


def page_and_markdown(run: Path, output: Path, rules: list[str]) -> tuple[str, str]:
    report(run, overrides=rules, output=output)
    return (output / "report_test.html").read_text(), (output / "report_test.md").read_text()


def test_estimates_and_sampled_ranks_stand_apart(run: Path, tmp_path: Path) -> None:
    rules = ["evaluation.sampled_candidates={number: 10}", "evaluation.propensity={power: 0.5}"]
    for text in page_and_markdown(run, tmp_path / "out", rules):
        ranks, rest = text.split("Estimates by propensity")
        estimates, sampled = rest.split("SAMPLED candidates, not the catalogue")
        assert "sampled10" not in ranks + estimates
        assert "effective cases of 60" in estimates
        sampled = sampled.replace("\\_", "_")
        assert "10 sampled, uniform, seed 0, draws" in sampled
        assert "sampled10_ndcg@10" in sampled
    plain = "".join(page_and_markdown(run, tmp_path / "plain", []))
    assert "Estimates by propensity" not in plain
    assert "SAMPLED" not in plain


def test_what_is_said_of_histories_is_true(run: Path, tmp_path: Path) -> None:
    excluded = page_and_markdown(run, tmp_path / "out", [])[1]
    assert "History: excluded" in excluded
    assert "best items, without the history" in excluded
    ranked = page_and_markdown(run, tmp_path / "ranked", ["evaluation.exclude_history=false"])[1]
    assert "History: ranked" in ranked
    assert "best items, the history among them" in ranked


def test_a_baseline_and_an_ensemble_are_reported_too(
    make_recipe: Callable[..., Any], run: Path, tmp_path: Path
) -> None:
    from peftrec.ensembling import ensemble

    data = load_run(run).recipe.data.root
    rules = [f"data.root={data}", "data.item_groups=[category]", "data.users=users.csv", "data.user_groups=[sex]"]
    train(make_recipe("baseline.kind=popularity", *rules, output_dir=tmp_path / "baseline"))
    found = report(tmp_path / "baseline")
    assert found["model"]["metrics"] == pytest.approx(found["popularity"]["metrics"])
    ensemble([run, tmp_path / "baseline"], tmp_path / "both")
    told = report(tmp_path / "both")
    members = {name for name, row in told.items() if isinstance(row, dict) and "metrics" in row}
    assert members == {"model", "1_run", "2_baseline", "popularity", "content_knn"}
    text = (tmp_path / "both" / "report_test.md").read_text()
    assert "|  | model | 1\\_run | 2\\_baseline | popularity | content\\_knn |" in text


def test_the_page_needs_nothing_beside_it(run: Path, tmp_path: Path) -> None:
    page = page_and_markdown(run, tmp_path / "out", [])[0]
    assert not re.search(r"src=|href=|url\(|@import|<script|https?:", page)
    assert page.count("<svg") == page.count("</svg>") == 6  # three plots, each with its legend


def test_estimates_stand_beside_the_plain_means(run: Path, tmp_path: Path) -> None:
    found = report(run, overrides=["evaluation.propensity={power: 0.5}"], output=tmp_path / "out")
    lines = (tmp_path / "out" / "report_test.md").read_text().splitlines()
    (estimate,) = (line for line in lines if line.startswith("| ndcg@5 | estimate | "))
    (plain,) = (line for line in lines if line.startswith("| ndcg@5 | plain mean | "))
    assert f"| {found['model']['snips']['metrics']['ndcg@5']:.4f} " in estimate
    assert f"| {found['model']['metrics']['ndcg@5']:.4f} " in plain


def test_metrics_of_lists_are_told_of_where_they_are_measured(run: Path, tmp_path: Path) -> None:
    assert "calibration: divergence" in page_and_markdown(run, tmp_path / "out", [])[0]
    without = ["evaluation.category=null"]
    assert "calibration" not in page_and_markdown(run, tmp_path / "without", without)[0]


def test_users_for_whom_nothing_is_left_to_rank(
    make_recipe: Callable[..., Any], write_toy: Callable[[Path], Path], tmp_path: Path
) -> None:
    """One has had all items, another all but the target: neither has an AUC, and the former has no list either."""
    data = write_toy(tmp_path / "data")
    with (data / "items.csv").open(encoding="utf-8") as file:
        items = [row["item_id"] for row in csv.DictReader(file)]
    with (data / "interactions.csv").open("a", encoding="utf-8") as file:
        for user, had in (("all", [*items, items[0]]), ("but_one", items)):
            file.writelines(f"{user},{item},{1_700_000_000 + place}\n" for place, item in enumerate(had))
    train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "run", data=data))
    found = report(tmp_path / "run")["popularity"]
    assert (found["num_users"], found["num_defined"]["auc"], found["num_defined"]["novelty@10"]) == (62, 60, 61)
    text = (tmp_path / "run" / "report_test.md").read_text()
    auc_told = "auc is not defined for all users: 60 for model, 60 for popularity, 60 for content\\_knn of 62."
    assert auc_told in text.split("## Lists")[0]
    assert "novelty@10 is not defined for all users: 61 for model" in text.split("## Lists")[1]


def test_sessions_are_reported_as_sequences_of_their_own(
    make_recipe: Callable[..., Any], write_toy: Callable[[Path], Path], tmp_path: Path
) -> None:
    data = write_toy(tmp_path / "data")
    rows = (data / "interactions.csv").read_text(encoding="utf-8").splitlines()
    # Each user comes again a day later.
    later = [f"{user},{item},{int(time) + 86_400}" for user, item, time in (row.split(",") for row in rows[1:])]
    (data / "interactions.csv").write_text("\n".join([*rows, *later]) + "\n", encoding="utf-8")
    rules = ("baseline.kind=popularity", "data.sessions={gap_minutes: 60}", "data.split={kind: user_holdout}")
    recipe = make_recipe(*rules, output_dir=tmp_path / "run", data=data)
    train(recipe)
    found = report(tmp_path / "run")
    owners = {user.partition("#")[0] for user in pl.read_parquet(
        tmp_path / "run" / "private" / "test_model.parquet")["user_id"]}  # fmt: skip
    assert found["model"]["num_users"] == 2 * len(owners)
    for text in ((tmp_path / "run" / name).read_text() for name in ("report_test.html", "report_test.md")):
        assert "Sequences are sessions" in text
