"""Tables of an evaluation, whatever is not defined in them."""

from __future__ import annotations

from typing import Any

import pytest

from peftrec.cli.table import print_lists, print_results

ROW: dict[str, Any] = {
    "metrics": {"ndcg@10": 0.25, "auc": None, "diversity@10": None, "novelty@10": 2.0},
    "intervals": {"ndcg@10": [0.2, 0.3], "novelty@10": [1.0, 3.0]},
    "overall": {"coverage@10": 0.5, "gini@10": None},
    "interval_level": 0.95,
    "num_cases": 4,
    "repeat_target_share": 0.0,
    "protocol": {"target_in_history": "miss"},
}
RUN = {"parameters": [], "training": {"train_seconds": 0.0}}


def cells(shown: str, name: str) -> list[str]:
    """Return what stands behind the name of a row."""
    (line,) = (line for line in shown.splitlines() if line.startswith(f"  {name}  "))
    return [cell for cell in line.removeprefix(f"  {name}").split("  ") if cell.strip()]


def test_what_is_not_defined_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    results = {"split": "test", "leaks": "", "model": ROW}
    print_results(results, RUN)
    assert [cell.strip() for cell in cells(capsys.readouterr().out, "model")][:2] == ["0.2500 [0.2000, 0.3000]", "-"]
    print_lists(results)
    shown = capsys.readouterr().out
    assert [cells(shown, key)[0].strip() for key in ("diversity@10", "coverage@10", "gini@10")] == ["-", "0.5000", "-"]
    assert "nan" not in shown.lower()
    assert "GAUC" not in shown


def test_gauc_is_printed_with_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"gauc": 0.6, "gauc_by_clicks": 0.5, "intervals": {"gauc": [0.55, 0.65], "gauc_by_clicks": [0.4, 0.6]}}
    print_lists({"split": "test", "model": ROW, "impressions": {"rows": {"model": found}}})
    shown = capsys.readouterr().out
    assert cells(shown, "GAUC")[0].strip() == "0.6000 [0.5500, 0.6500]"
    assert cells(shown, "GAUC by clicks")[0].strip() == "0.5000 [0.4000, 0.6000]"
