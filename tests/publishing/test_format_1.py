"""Folders of format version 1, as they were written once, still load and recommend what they did."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import peftrec
from peftrec.config import InputError
from peftrec.publishing import load_run, read_manifest, replace_texts
from peftrec.publishing.manifest import sealed

FIXTURE = Path(__file__).parent.parent / "fixture" / "run_format_1"


def sums(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("name", ["run", "baseline"])
def test_old_folders_recommend_what_they_did(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURE)
    before = sums(FIXTURE)
    recommender = peftrec.Recommender.from_pretrained(name)
    for case in json.loads(Path("expected.json").read_text())[name]:
        found = recommender.recommend(case["history"], 5)
        assert [entry.item_id for entry in found] == [item for item, _ in case["list"]]
        assert [entry.score for entry in found] == pytest.approx([score for _, score in case["list"]], abs=1e-4)
    assert sums(FIXTURE) == before


def test_a_file_of_an_old_folder_is_replaced_and_it_stays_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURE)
    copy = Path(shutil.copytree(FIXTURE / "run", tmp_path / "run"))
    replace_texts(copy, {"metrics.json": (copy / "metrics.json").read_text() + "\n"})
    assert read_manifest(copy).format_version == 1
    assert json.loads((copy / "peftrec.json").read_text()).keys().isdisjoint({"recipe", "num_items"})
    load_run(copy)


@pytest.mark.parametrize("version", [0, 3, 99, "2", 2.0, True, None, [1]])
def test_other_versions_are_refused(version: object, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(FIXTURE / "run", tmp_path / "run"))
    content = json.loads((copy / "peftrec.json").read_text())
    (copy / "peftrec.json").write_text(json.dumps({**content, "format_version": version}))
    with pytest.raises(InputError, match=r"has format version .* reads 1 and 2; a newer peftrec may read it"):
        load_run(copy)


def test_an_old_folder_that_calls_itself_new_is_refused(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(FIXTURE / "run", tmp_path / "run"))
    content = json.loads((copy / "peftrec.json").read_text())
    (copy / "peftrec.json").write_text(json.dumps(sealed({**content, "format_version": 2})))
    with pytest.raises(InputError, match="is damaged"):
        load_run(copy)
