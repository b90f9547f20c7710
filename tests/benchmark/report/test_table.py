"""The numbers of a table, by hand: means, kept shares, Holm, costs, TPME, and which runs make a row."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from peftrec.benchmark.report.cell import ONE_SEED, cost_table, digits, main_table
from peftrec.benchmark.report.condition import cost_notes
from peftrec.benchmark.report.expense import tpme
from peftrec.benchmark.report.finding import findings
from peftrec.benchmark.report.measured import Line, MeasuredTable, measure_table
from peftrec.benchmark.report.quality import kept_share
from peftrec.benchmark.report.result import read_results
from peftrec.benchmark.report.row import make_tables
from peftrec.evaluation import crossed_interval

from .conftest import MINILM, cost, target_slices

Make = Callable[..., Path]


def measured(folder: Path) -> list[MeasuredTable]:
    tables, left_out = make_tables(read_results(folder))
    assert not left_out
    return [measure_table(table) for table in tables]


def lines(folder: Path) -> dict[str, Line]:
    (table,) = measured(folder)
    return {line.row.method: line for line in table.lines}


def test_a_table_by_hand(make_result: Make, results: Path) -> None:
    """NDCG@10 of ranks 1, 3, 7 is 1, 1/2, 1/3; of what cannot be ranked 0."""
    make_result("full", [1, 1, 3, 3], lm=(1_000_000, 1_000_000), cost=cost(step=2.0, memory=400.0))
    make_result("lora", [1, 3, 3, 0], lm=(5_000, 1_000_000), cost=cost(step=1.0, memory=300.0), label="LoRA")
    make_result("popularity", [7, 7, 7, 0], kind="baseline", parameters=[], files={"a": 2_500_000})
    table = main_table(measured(results)[0])
    rows = [dict(zip(table.names, row, strict=True)) for row in table.rows]
    assert [row["method"] for row in rows] == [
        f"full {ONE_SEED}",
        f"LoRA {ONE_SEED}",
        f"popularity (baseline) {ONE_SEED}",
    ]
    assert [row["NDCG@10"].split()[0] for row in rows] == ["0.7500", "0.5000", "0.2500"]
    assert [row["HR@10"].split()[0] for row in rows] == ["1.0000", "0.7500", "0.7500"]
    assert [row["% of full"].split()[0] for row in rows] == ["-", "66.7", "33.3"]
    assert [row["minus full"].split()[0] for row in rows] == ["-", "-0.2500", "-0.5000"]
    assert [row["LM parameters trained"] for row in rows] == ["1,000,000", "5,000", "-"]
    assert [row["% of LM"] for row in rows] == ["100", "0.500", "-"]
    assert [row["all trained"] for row in rows] == ["1,000,100", "5,100", "-"]
    assert [row["files, MB"] for row in rows] == ["4.00", "0.0204", "2.50"]
    assert [row["memory, MiB"] for row in rows] == ["400", "300", "-"]
    assert [row["epoch, s"] for row in rows] == ["80.0", "40.0", "-"]
    assert [row["TPME"] for row in rows] == ["1.000", "0.000", "-"]
    assert [row["seeds"] for row in rows] == ["1", "1", "1"]


def test_seconds_of_runs_are_no_cost(make_result: Make, results: Path) -> None:
    """Runs share their machine; what was not measured apart stays empty and is left out of short tables."""
    training = {"epochs": [], "best_epoch": 0, "num_steps": 0, "train_seconds": 12345.0}
    make_result("full", [1, 1], training=training)
    make_result("ease", [3, 3], kind="baseline", training=training, parameters=[])
    (table,) = measured(results)
    assert cost_table(table) is None
    for row in main_table(table).rows:
        told = dict(zip(main_table(table).names, row, strict=True))
        assert {told[name] for name in ("memory, MiB", "step, s", "epoch, s", "TPME")} == {"-"}
        assert "12,345" not in str(row)
    assert main_table(table, short=True).names == (
        "method", "NDCG@10", "% of full", "p (Holm)", "% of LM", "files, MB", "seeds",
    )  # fmt: skip


def test_kept_share_by_hand() -> None:
    """R = mean(m) / mean(f); a user counts R + (m - R f) / mean(f), a seed its mean difference over mean(f)."""
    values_SU = np.array([[1.0, 0.5, 0.5, 0.0], [1.0, 0.5, 0.0, 0.5]])
    full_SU = np.array([[1.0, 1.0, 0.5, 0.5], [1.0, 0.5, 0.5, 0.5]])
    full, ratio = 0.6875, 0.5 / 0.6875
    linear_U = ratio + (np.array([1.0, 0.5, 0.25, 0.25]) - ratio * np.array([1.0, 0.75, 0.5, 0.5])) / full
    found = kept_share(values_SU, full_SU, paired=True)
    assert found is not None
    assert found.value == pytest.approx(ratio)
    differences_S = (np.array([0.5, 0.5]) - ratio * np.array([0.75, 0.625])) / full
    assert (found.low, found.high) == pytest.approx(crossed_interval(linear_U, [differences_S]))
    apart = kept_share(values_SU, full_SU, paired=False)
    assert apart is not None
    both = [np.array([0.5, 0.5]) / full, ratio * np.array([0.75, 0.625]) / full]
    assert (apart.low, apart.high) == pytest.approx(crossed_interval(linear_U, both))


def test_a_constant_share_is_known_exactly() -> None:
    full_SU = np.array([[1.0, 0.5, 0.0, 0.3], [0.9, 0.5, 0.1, 0.4]])
    found = kept_share(0.9 * full_SU, full_SU, paired=True)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.9, 0.9))
    assert kept_share(full_SU, 0 * full_SU, paired=True) is None


def test_holm_over_the_table(make_result: Make, results: Path) -> None:
    """The least p is multiplied by the number of comparisons, the next by one less, and none falls below the last."""
    make_result("full", [1] * 60)
    for method, num_worse in (("lora", 6), ("side", 12), ("prefix", 30), ("ia3", 0)):
        make_result(method, [3] * num_worse + [1] * (60 - num_worse))
    found = [line for method, line in lines(results).items() if method != "full"]
    by_p = sorted(found, key=lambda line: line.quality.test.p_value if line.quality.test else 1.0)
    raw = [line.quality.test.p_value for line in by_p if line.quality.test]
    assert [line.row.method for line in by_p] == ["prefix", "side", "lora", "ia3"] or raw[0] == raw[1]
    expected = list(itertools.accumulate((min(1.0, (4 - at) * p) for at, p in enumerate(raw)), max))
    assert [line.quality.adjusted_p_value for line in by_p] == pytest.approx(expected)
    lora = next(line for line in found if line.row.method == "lora")
    assert lora.quality.test is not None
    # Significant alone, and not among four.
    assert lora.quality.test.p_value < 0.05 < 2 * lora.quality.test.p_value
    assert not lora.quality.differs
    told = next(entry for entry in findings(measured(results)[0]) if "Holm" in entry)
    assert "over 4 comparisons" in told
    assert told.index("prefix") < told.index("not told apart") < told.index("lora")


def test_what_is_efficient(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1, 1, 3], lm=(1_000_000, 1_000_000))
    make_result("lora", [1, 1, 1, 3], lm=(10_000, 1_000_000))
    told = " ".join(findings(measured(results)[0]))
    assert "At least 99% of full fine-tuning's NDCG@10 with at most 1% of the LM trained: lora (100.0%" in told
    assert "There is no result of popularity here" in told


def test_why_nothing_is_efficient(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1, 1, 3], lm=(1_000_000, 1_000_000))
    make_result("lora_top2", [1, 1, 1, 3], lm=(20_000, 1_000_000), label="LoRA, top 2")
    make_result("ia3", [1, 3, 3, 3], lm=(100, 1_000_000))
    told = next(entry for entry in findings(measured(results)[0]) if entry.startswith("No method keeps"))
    assert "the best is ia3, which keeps 71.4%" in told
    assert "of those that keep so much 'LoRA, top 2' trains least, 2.00% of the LM" in told


def test_other_cases_are_not_compared(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1, 3, 3])
    make_result("side", [1, 1, 3, 3], users=[0, 1, 2, 9])
    side = lines(results)["side"]
    assert (side.quality.kept, side.quality.test) == (None, None)
    told = " ".join(findings(measured(results)[0]))
    assert "Tested on other cases or under other rules, so not paired with the rest" in told


def test_the_trial_that_validation_chose_makes_the_row(make_result: Make, results: Path) -> None:
    rate = "optimizer.learning_rate"
    make_result("full", [1, 1, 1, 1])
    make_result("lora", [1, 1, 1, 1], values={rate: 1e-3}, valid=0.04)
    make_result("lora", [3, 3, 3, 3], values={rate: 1e-4}, valid=0.05)
    make_result("lora", [7, 7, 7, 7], values={rate: 1e-4}, seed=1, stage="seed", valid=0.09)
    row = lines(results)["lora"].row
    assert (row.seeds, row.num_trials, row.warning) == ([0, 1], 2, "")
    assert row.mean("ndcg@10") == pytest.approx((1 / 2 + 1 / 3) / 2)
    told = findings(measured(results)[0])
    assert "Tuning differs, which favours those with more trials. 1 trial: full; 2 trials: lora." in told


def test_values_of_another_data_set(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1, 1, 1], stage="seed", tuned_on="ml", dataset_label="Beauty!")
    (table,) = measured(results)
    assert table.table.title == "Beauty!, all-MiniLM-L6-v2"
    assert table.table.slug == "beauty_all_minilm_l6_v2"
    assert (
        "Every model had the same tuning: no trials here, the best values of ml. Validation alone chose."
        in findings(table)
    )


def test_baselines_stand_in_every_table_of_their_data(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1])
    make_result("qlora", [1, 1], backbone="HuggingFaceTB/SmolLM2-135M")
    make_result("sasrec", [3, 3], backbone=None)
    make_result("content_knn", [7, 7], kind="baseline", backbone=MINILM)
    make_result("full", [1, 1], dataset="scientific", lm=None, backbone=None)
    titles = {one.table.title: [line.row.label for line in one.lines] for one in measured(results)}
    assert titles == {
        "beauty, SmolLM2-135M": ["qlora", "sasrec", "content_knn (all-MiniLM-L6-v2)"],
        "beauty, all-MiniLM-L6-v2": ["full", "sasrec", "content_knn"],
        "scientific": ["full"],
    }


def test_tpme_by_hand() -> None:
    """Terms run from the least to the most; the weights are 0.45, 0.1, 0.45."""
    found = tpme([(100.0, 1000.0, 50.0), (50.0, 10.0, 50.0), (75.0, 505.0, 50.0)])
    # All take the same memory, so that term is 0 for all.
    assert found == pytest.approx([0.45 + 0.1, 0.0, 0.5 * 0.45 + 0.5 * 0.1])
    assert tpme([]) == []


def test_no_tpme_for_memory_that_is_not_known(make_result: Make, results: Path) -> None:
    """None is no memory of 0, which would be the least of the table; and what is not known may be the most."""
    for method in ("full", "lora", "houlsby"):
        make_result(method, [1, 1], cost=cost(memory=None if method == "lora" else 300.0))
    assert {line.tpme for line in lines(results).values()} == {None}


def test_no_tpme_unless_all_models_were_measured(make_result: Make, results: Path) -> None:
    """The least and the most of the table may be among those that were not."""
    make_result("frozen", [1, 1], cost=cost(step=0.1))
    make_result("lora", [1, 1], cost=cost(step=0.5))
    make_result("popularity", [1, 1], kind="baseline", parameters=[])
    assert [line.tpme for line in lines(results).values()].count(None) == 1
    make_result("full", [1, 1])
    assert {line.tpme for line in lines(results).values()} == {None}
    assert "Without the costs of all models there is no TPME." in cost_notes(measured(results)[0])


def test_no_tpme_over_several_machines(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1], cost=cost(machine="one"))
    make_result("lora", [1, 1], cost=cost(machine="two"))
    assert [line.tpme for line in lines(results).values()] == [None, None]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (22_565_376, "22,565,376"), (45.36, "45.4"), (0.00123456, "0.00123"), (99.96, "100.0")],
)
def test_digits(value: float | None, text: str) -> None:
    assert digits(value) == text


def test_costs_of_other_code_are_told(make_result: Make, results: Path) -> None:
    one, other = cost(), cost()
    one["environment"]["code"], other["environment"]["code"] = "a" * 64, "b" * 64
    old = cost()
    old["environment"]["commit"] = "d" * 40  # from before costs named a digest; results are of commit ccc...
    for method, costs in {"full": one, "lora": other, "prefix": cost(), "side": old}.items():
        make_result(method, [1, 1], cost=costs)
    for path in results.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        content["environment"]["code"] = "a" * 64
        path.write_text(json.dumps(content), encoding="utf-8")
    (table,) = measured(results)
    told = [note for note in cost_notes(table) if note.startswith("MIXED")]
    assert told == ["MIXED: costs were measured with other code than the results for lora; side."]


def test_the_metric_of_the_recipe_chooses_among_trials(make_result: Make, results: Path) -> None:
    """That which the suite chose by, and repeated; among equal ones that which it went on with."""
    for name, ndcg, hr in (("a", 0.5, 0.1), ("b", 0.2, 0.9), ("c", 0.1, 0.9)):
        path = make_result("full", [1, 1], name=name, values={"rate": name}, valid=ndcg)
        content = json.loads(path.read_text(encoding="utf-8"))
        content["recipe"]["training"] = {"metric": "hr@10"}
        content["valid"]["metrics"]["hr@10"] = hr
        path.write_text(json.dumps(content), encoding="utf-8")
    assert [run.name for run in lines(results)["full"].row.runs] == ["b"]
    recipe = {"training": {"metric": "hr@10", "seed": 1}}
    make_result("full", [1, 1], name="d", values={"rate": "c"}, seed=1, stage="seed", recipe=recipe)
    row = lines(results)["full"].row
    assert ([run.name for run in row.runs], row.warning) == (["c", "d"], "")


def test_the_best_trial_cannot_be_replaced_by_a_loser(make_result: Make, results: Path) -> None:
    """Else every share and every p of the table would be of another full fine-tuning, and nobody would know."""
    rate = "optimizer.learning_rate"
    make_result("full", [1, 1, 1, 1], name="full.learning_rate-1", values={rate: 1.0}, valid=0.06)
    make_result("full", [3, 3, 3, 3], name="full.learning_rate-2", values={rate: 2.0}, valid=0.05)
    make_result("lora", [3, 3, 3, 3], name="lora")
    (results / "full.learning_rate-1.parquet").unlink()
    tables, left_out = make_tables(read_results(results))
    assert [row.method for row in tables[0].rows] == ["lora"]
    (entry,) = left_out
    assert (entry.name, entry.refused) == ("full.learning_rate-2.json", False)
    assert "full.learning_rate-1.json, which was the best trial in validation, cannot be used" in entry.reason
    told = " ".join(findings(measure_table(tables[0])))
    assert "There is no result of full fine-tuning, so nothing can be said" in told
    # Other seeds of the best values stand for it, and it is told that one is missing.
    make_result("full", [7, 7, 7, 7], name="full.seed-1", values={rate: 1.0}, seed=1, stage="seed")
    tables, left_out = make_tables(read_results(results))
    assert [run.name for run in tables[0].rows[0].runs] == ["full.seed-1"]
    assert "so that a seed is missing" in " ".join(findings(measure_table(tables[0])))
    assert not left_out
    # A loser that cannot be used changes nothing.
    make_result("full", [1, 1, 1, 1], name="full.learning_rate-1", values={rate: 1.0}, valid=0.06)
    (results / "full.learning_rate-2.parquet").unlink()
    tables, left_out = make_tables(read_results(results))
    assert [run.name for run in tables[0].rows[0].runs] == ["full.learning_rate-1", "full.seed-1"]
    assert (tables[0].rows[0].warning, left_out) == ("", [])


def test_a_trial_that_cannot_be_read_may_be_the_best(make_result: Make, results: Path) -> None:
    rate = "optimizer.learning_rate"
    make_result("full", [1, 1, 1, 1], name="beauty.full.learning_rate-1.seed-0", values={rate: 1.0})
    make_result("lora", [1, 1, 1, 1], name="beauty.lora.learning_rate-1.seed-0", values={rate: 1.0})
    repeat = results / "beauty.full.learning_rate-1.seed-1.json"
    repeat.write_text("{", encoding="utf-8")
    assert lines(results)["full"].row.sure  # it can only be a repeat
    (results / "beauty.full.learning_rate-2.seed-0.json").write_text("{", encoding="utf-8")
    (table,) = measured(results)
    (full,) = [line for line in table.lines if line.row.method == "full"]
    assert (full.row.sure, table.table.reference) == (False, None)
    told = " ".join(findings(table))
    assert "full: beauty.full.learning_rate-2.seed-0.json, a trial of it that may be the best, cannot be read." in told
    assert "It is not sure which trial of full fine-tuning was the best" in told
    assert {line.quality.kept for line in table.lines} == {None}


def test_a_row_is_of_one_recipe(make_result: Make, results: Path) -> None:
    recipe = {"training": {"num_epochs": 5, "seed": 0}, "user": {"dropout": 0.1}, "output_dir": "a"}
    other = {"training": {"num_epochs": 50, "seed": 1}, "user": {"dropout": 0.0}, "output_dir": "b"}
    make_result("lora", [1, 1], name="a", recipe=recipe)
    make_result(
        "lora", [1, 1], name="b", recipe=recipe | {"training": {"num_epochs": 5, "seed": 2}}, seed=2, stage="seed"
    )
    make_result("lora", [1, 1], name="c", recipe=other, seed=1, stage="seed")
    tables, (entry,) = make_tables(read_results(results))
    assert [run.name for run in tables[0].rows[0].runs] == ["a", "b"]
    assert (entry.name, entry.refused) == ("c.json", True)
    assert entry.reason == (
        "is of another recipe than a, another run of its row: training.num_epochs (50, 5 there); "
        "user.dropout (0.0, 0.1 there)"
    )


def test_a_setting_that_other_code_did_not_know_makes_no_other_recipe(make_result: Make, results: Path) -> None:
    """Results of two versions stand in one row where somebody allowed it, and the report says MIXED."""
    make_result("lora", [1, 1], name="a", recipe={"training": {"num_epochs": 5}})
    make_result("lora", [1, 1], name="b", recipe={"training": {"num_epochs": 5, "new": 1}}, seed=1, stage="seed")
    assert [run.name for run in lines(results)["lora"].row.runs] == ["a", "b"]


def test_what_differs_beside_the_method_is_told(make_result: Make, results: Path) -> None:
    rate = "optimizer.learning_rate"
    for method in ("full", "lora", "side"):
        recipe = {"method": {"kind": method}, "training": {"num_epochs": 5}, "optimizer": {"learning_rate": 1.0}}
        make_result(method, [1, 1], recipe=recipe, values={rate: 1.0})
    make_result("prefix", [1, 1], recipe=recipe | {"training": {"num_epochs": 40}}, values={"optimizer.head": 1})
    told = findings(measured(results)[0])
    assert "Not the method alone differs from most models of the table for prefix (training.num_epochs)." in told
    assert (
        "Not the same settings were tuned: optimizer.head of prefix; optimizer.learning_rate of full, lora, side."
        in told
    )


def test_trials_that_failed_are_no_tuning(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1], values={"rate": 1})
    make_result("full", [1, 1], values={"rate": 2})
    make_result("lora", [1, 1], values={"rate": 1})
    path = make_result("lora", [1, 1], values={"rate": 2})
    content = json.loads(path.read_text(encoding="utf-8"))
    content["status"] = {"state": "out_of_memory", "seconds": 1.0, "reason": "no memory"}
    path.write_text(json.dumps(content), encoding="utf-8")
    told = findings(measured(results)[0])
    assert (
        "Tuning differs, which favours those with more trials. 2 trials: full; 2 trials, 1 of which failed: lora."
        in told
    )


def test_rows_of_other_cases_stand_in_no_comparison_of_cold_items(make_result: Make, results: Path) -> None:
    make_result("full", [1, 1, 3, 3], slices=target_slices(0.02, 0.1, 0.1, 0.1))
    make_result("content_knn", [1, 1, 1, 1], users=[0, 1, 2, 9], kind="baseline", parameters=[],
                slices=target_slices(0.9, 0.1, 0.1, 0.1))  # fmt: skip
    told = " ".join(findings(measured(results)[0]))
    assert "On cold targets, which nobody had in training, full has the highest NDCG@10, 0.0200" in told
    assert "There is no result of content_knn here" in told


def test_where_costs_come_from(make_result: Make, results: Path) -> None:
    one, other = cost(), cost()
    one["environment"] |= {"commit": "a" * 40, "dirty": False, "measured_by": "1" * 64}
    other["environment"] |= {"commit": "b" * 40, "dirty": False, "measured_by": "2" * 64}
    make_result("full", [1, 1], cost=one)
    make_result("lora", [1, 1], cost=other)
    told = cost_notes(measured(results)[0])
    assert (
        "Costs of 1 row were measured on this: processor box; commit aaaaaaaaaaaa, measuring code 111111111111." in told
    )
    assert "MIXED: costs were measured by different code, which may have measured differently." in told
