from __future__ import annotations

import builtins
import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import InputError
from peftrec.training.progress import TrainingProgress
from peftrec.training.run_lock import LOCK, is_running, running

HOLDER = """
import sys, time
from pathlib import Path
from peftrec.training.progress import TrainingProgress
from peftrec.training.run_lock import running
folder = Path(sys.argv[1])
with running(folder), TrainingProgress(10, enabled=True, folder=folder):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that trains in the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_in_which_nothing_ran_is_not_running(tmp_path: Path) -> None:
    assert is_running(tmp_path) is False
    assert is_running(tmp_path / "nowhere") is False
    assert list(tmp_path.iterdir()) == []


def test_it_runs_as_long_as_the_lock_is_held(tmp_path: Path) -> None:
    with running(tmp_path / "run"):
        assert is_running(tmp_path / "run") is True
    assert is_running(tmp_path / "run") is False
    assert not (tmp_path / "run" / LOCK).exists()


def test_asking_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK).parent.mkdir()
    (tmp_path / LOCK).touch()
    assert is_running(tmp_path) is False
    with running(tmp_path):
        assert is_running(tmp_path) is True


def test_a_second_training_is_refused_and_told_who_trains(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert is_running(tmp_path) is True
    told = rf"{tmp_path}: another process trains there \(process {holder.pid} on \S+, since 20"
    with pytest.raises(InputError, match=told), running(tmp_path, clear=True):
        pytest.fail("the lock was given twice")
    assert (tmp_path / "private" / "progress.json").is_file(), "nothing is cleared that another works in"


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert is_running(tmp_path) is False
    with running(tmp_path):
        assert is_running(tmp_path) is True


def test_what_an_earlier_training_left_is_cleared_under_the_lock(tmp_path: Path) -> None:
    with TrainingProgress(10, enabled=True, folder=tmp_path):
        pass
    (tmp_path / "private" / "checkpoints" / "last").mkdir(parents=True)
    (tmp_path / "private" / "checkpoints" / "last" / "state.json").touch()
    (tmp_path / "head.safetensors").touch()
    with running(tmp_path):
        assert (tmp_path / "head.safetensors").exists()
    with running(tmp_path, clear=True):
        assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))] == [LOCK.parent, LOCK]
        assert is_running(tmp_path) is True


def test_a_folder_that_moves_takes_no_lock_of_another_with_it(tmp_path: Path) -> None:
    first, second = tmp_path / "run.partial", tmp_path / "run"
    with running(first):
        first.rename(second)
        with running(first):
            pass
        with running(first):
            (first / LOCK).rename(first / "kept")  # stands for the lock of a third process, from here on
            (first / LOCK).touch()
        assert (first / LOCK).exists(), "a lock that was not its own was removed"
    assert is_running(second) is False


def test_where_there_are_no_locks_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "fcntl":
            raise ModuleNotFoundError("No module named 'fcntl'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with running(tmp_path), running(tmp_path):
        assert is_running(tmp_path) is None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_like_a_system_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with running(tmp_path):
        assert is_running(tmp_path) is None
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"), running(tmp_path):
        pass
