"""Ranks of cases without ids: read back they give the metrics of the run, and say which cases they are of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from peftrec.config import InputError
from peftrec.evaluation import arm_test
from peftrec.publishing import METRICS, PRIVATE, read_case_ranks, read_per_user, write_case_ranks


def test_ranks_give_the_metrics_of_the_run_without_its_ids(trained: Path, tmp_path: Path) -> None:
    stored = write_case_ranks(trained, tmp_path / "run.parquet", names=("model", "popularity"))
    block = json.loads((trained / METRICS).read_text())["test"]
    for name in ("model", "popularity"):
        read = read_case_ranks(tmp_path / "run.parquet", stored, block[name], name=name)
        kept = read_per_user([trained], "test", name)[0]
        assert read.num_users == kept.num_users
        assert np.array_equal(read.ranks, kept.ranks)
        assert read.protocol() == kept.protocol()
        for metric, mean in read.summary().items():
            assert mean == pytest.approx(block[name]["metrics"][metric], abs=1e-12)
        assert {"hr@10", "ndcg@10", "mrr@10"} <= read.per_user.keys()
    frame = pl.read_parquet(tmp_path / "run.parquet")
    assert frame.columns == ["user", "rank", "rank_popularity"]
    assert all(kind.is_integer() for kind in frame.dtypes)


def test_a_paired_test_finds_the_same_with_and_without_ids(trained: Path, tmp_path: Path) -> None:
    stored = write_case_ranks(trained, tmp_path / "run.parquet", names=("model", "popularity"))
    block = json.loads((trained / METRICS).read_text())["test"]
    names = ("model", "popularity")
    read = [read_case_ranks(tmp_path / "run.parquet", stored, block[name], name=name) for name in names]
    kept = [read_per_user([trained], "test", name)[0] for name in names]
    found, wanted = (arm_test([one], [other], "mrr@10") for one, other in (read, kept))
    assert (found.difference, found.p_value) == pytest.approx((wanted.difference, wanted.p_value))


def test_the_digest_tells_other_cases_apart(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(trained, other)
    assert (
        write_case_ranks(trained, tmp_path / "a.parquet")["sha256"]
        == write_case_ranks(other, tmp_path / "b.parquet")["sha256"]
    )
    path = other / PRIVATE / "test_model.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(pl.col("target_id").reverse()).write_parquet(path)
    assert (
        write_case_ranks(trained, tmp_path / "a.parquet")["sha256"]
        != write_case_ranks(other, tmp_path / "b.parquet")["sha256"]
    )
    with pytest.raises(InputError, match="other cases than those of model"):
        write_case_ranks(other, tmp_path / "c.parquet", names=("model", "popularity"))


def test_what_is_wrong_with_a_file_is_named(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    stored = write_case_ranks(trained, path)
    block = json.loads((trained / METRICS).read_text())["test"]["model"]
    with pytest.raises(InputError, match=r"run.parquet: holds no ranks of content_knn"):
        read_case_ranks(path, stored, block, name="content_knn")
    with pytest.raises(InputError, match=r"its JSON says 7"):
        read_case_ranks(path, stored | {"num_cases": 7}, block)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"run.parquet: holds no ranks"):
        read_case_ranks(path, stored, block)
    path.unlink()
    with pytest.raises(InputError, match=r"run.parquet: is missing"):
        read_case_ranks(path, stored, block)


def test_a_target_that_cannot_be_ranked_is_a_miss(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(trained, other)
    private = other / PRIVATE / "test_model.parquet"
    frame = pl.read_parquet(private)
    missed = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(np.iinfo(np.int64).max).otherwise(1).alias("rank")
    )
    missed.write_parquet(private)
    stored = write_case_ranks(other, tmp_path / "run.parquet")
    block = json.loads((other / METRICS).read_text())["test"]["model"]
    read = read_case_ranks(tmp_path / "run.parquet", stored, block)
    assert read.per_user["hr@10"].tolist() == [0.0] + [1.0] * (frame.height - 1)
