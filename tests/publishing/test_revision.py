"""Files of a finished run written anew: a kill at any moment leaves a folder that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import peftrec.publishing.revision as revision
from peftrec.config import InputError
from peftrec.publishing.manifest import Manifest, file_table, read_manifest
from peftrec.publishing.revision import replace_texts

NEW = {"metrics.json": "new", "plots/one.svg": "plot", "report.md": "text"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.json").write_text("old")
    Manifest(peftrec_version="0", backbone=None, text={}, files=file_table(tmp_path), recipe={}, num_items=0).write(
        tmp_path
    )
    return tmp_path


def test_files_are_replaced_and_listed(folder: Path) -> None:
    replace_texts(folder, NEW)
    assert {name: (folder / name).read_text() for name in NEW} == NEW
    manifest = read_manifest(folder)
    assert set(manifest.files) == set(NEW)
    assert "before" not in json.dumps(manifest.files)
    replace_texts(folder, {"metrics.json": "newer"})
    assert set(read_manifest(folder).files) == set(NEW)


@pytest.mark.parametrize("moment", range(5))
def test_a_kill_at_any_moment(folder: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    write, calls = revision.replace_text, []

    def stop(path: Path, text: str) -> None:
        if len(calls) == moment:
            raise KeyboardInterrupt
        calls.append(path)
        write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(revision, "replace_text", stop)
        with pytest.raises(KeyboardInterrupt):
            replace_texts(folder, NEW)
    read_manifest(folder)
    assert (folder / "metrics.json").read_text() in ("old", "new")
    replace_texts(folder, NEW)
    assert {name: (folder / name).read_text() for name in NEW} == NEW
    read_manifest(folder)


@pytest.mark.parametrize("second", range(5))
@pytest.mark.parametrize("first", range(5))
def test_two_kills_in_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch, first: int, second: int) -> None:
    write = revision.replace_text
    for moment, texts in ((first, NEW), (second, {name: f"{text}er" for name, text in NEW.items()})):
        calls: list[Path] = []

        def stop(path: Path, text: str, moment: int = moment, calls: list[Path] = calls) -> None:
            if len(calls) == moment:
                raise KeyboardInterrupt
            calls.append(path)
            write(path, text)

        with monkeypatch.context() as patched:
            patched.setattr(revision, "replace_text", stop)
            with pytest.raises(KeyboardInterrupt):
                replace_texts(folder, texts)
        read_manifest(folder)
    replace_texts(folder, NEW)
    assert {name: (folder / name).read_text() for name in NEW} == NEW
    read_manifest(folder)


def test_what_was_edited_meanwhile_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = revision.replace_text, []

    def stop(path: Path, text: str) -> Any:
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(path)
        return write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(revision, "replace_text", stop)
        with pytest.raises(KeyboardInterrupt):
            replace_texts(folder, NEW)
    (folder / "metrics.json").write_text("odd")
    with pytest.raises(InputError, match=r"metrics\.json"):
        read_manifest(folder)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        replace_texts(tmp_path, NEW)
    assert not any(tmp_path.iterdir())
