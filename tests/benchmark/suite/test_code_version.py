from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from peftrec.benchmark.code_version import code_of_commit, code_of_files, is_dirty, measuring_code


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.com", "-c", "core.autocrlf=false"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_files_and_commits_agree(tmp_path: Path) -> None:
    package = tmp_path / "peftrec"
    for name, text in {"run.py": "x = 1\n", "data/read.py": "y = 'ä'\n", "cli/train.py": "z = 1\n"}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    assert code_of_commit("HEAD", package) is None
    assert not is_dirty(package)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    first = git(tmp_path, "rev-parse", "HEAD")
    code = code_of_files(package)
    assert code == code_of_commit(first, package)
    assert not is_dirty(package)
    # What starts runs decides nothing about them; what trains does.
    (package / "cli" / "train.py").write_text("z = 2\n", encoding="utf-8")
    (package / "notes.txt").write_text("nothing", encoding="utf-8")
    assert code_of_files(package) == code
    assert not is_dirty(package)
    (package / "data" / "read.py").write_text("y = 2\n", encoding="utf-8")
    assert code_of_files(package) != code
    assert is_dirty(package)
    git(tmp_path, "commit", "-qam", "second")
    assert not is_dirty(package)
    assert code_of_commit(first, package) == code != code_of_commit("HEAD", package)
    assert code_of_commit("0" * 40, package) is None


def test_what_measures_costs_has_a_digest_of_its_own(tmp_path: Path) -> None:
    for name in ("benchmark/cost/steps.py", "benchmark/speed/machine.py", "benchmark/runner.py", "run.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n", encoding="utf-8")
    code, measured_by = code_of_files(tmp_path), measuring_code(tmp_path)
    for name in ("benchmark/runner.py", "run.py"):
        (tmp_path / name).write_text("x = 2\n", encoding="utf-8")
    assert measuring_code(tmp_path) == measured_by
    for number, name in enumerate(("benchmark/cost/steps.py", "benchmark/speed/machine.py")):
        (tmp_path / name).write_text(f"x = {number + 3}\n", encoding="utf-8")
        assert measuring_code(tmp_path) != measured_by
        measured_by = measuring_code(tmp_path)
    assert code_of_files(tmp_path) != code  # by run.py
