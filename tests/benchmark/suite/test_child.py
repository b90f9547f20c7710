"""Real processes, small ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from peftrec.benchmark.child import Ended, run_child
from peftrec.benchmark.result_folder import ResultFolder


def ended(code: str, tmp_path: Path, stop: threading.Event | None = None, held: tuple[int, ...] = ()) -> Ended:
    log = tmp_path / "log"
    command = [sys.executable, "-c", code]
    return run_child(command, log=log, threads=3, stop=stop or threading.Event(), held=held)


def test_an_end_that_is_well(tmp_path: Path) -> None:
    found = ended("import os, sys; print(os.environ['OMP_NUM_THREADS']); print('told', file=sys.stderr)", tmp_path)
    assert (found.state, found.reason, found.exit_code) == ("ok", None, 0)
    assert (tmp_path / "log").read_text(encoding="utf-8").split() == ["3", "told"]
    assert ended("print('more')", tmp_path).state == "ok"
    assert (tmp_path / "log").read_text(encoding="utf-8").split()[-1] == "more"


def test_a_failure_has_the_end_of_what_was_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of a run before: out of memory\n", encoding="utf-8")
    found = ended("print('first\\n' * 9 + 'data.root: there is no folder'); raise SystemExit(4)", tmp_path)
    assert (found.state, found.exit_code) == ("failed", 4)
    assert found.reason == "first first first data.root: there is no folder"
    assert ended("raise SystemExit(5)", tmp_path).reason == "exit code 5, without a word"


def test_a_signal(tmp_path: Path) -> None:
    found = ended(f"import os; print('on the way', flush=True); os.kill(os.getpid(), {int(signal.SIGKILL)})", tmp_path)
    assert (found.state, found.exit_code) == ("killed", -signal.SIGKILL)
    assert found.reason == "ended by SIGKILL, after: on the way"


@pytest.mark.skipif(sys.platform != "linux", reason="signals for applications are those of Linux")
def test_a_signal_without_a_name(tmp_path: Path) -> None:
    found = ended(f"import os; os.kill(os.getpid(), {signal.SIGRTMIN + 1})", tmp_path)
    assert (found.state, found.reason) == ("killed", f"ended by signal {signal.SIGRTMIN + 1}")


def test_of_an_endless_log_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.benchmark.child._READ_BYTES", 1000)
    found = ended("print('out of memory\\n' + 'step\\n' * 1000 + 'no such file'); raise SystemExit(1)", tmp_path)
    assert (found.state, found.reason) == ("failed", "step step step no such file")
    assert ended("print('out of memory'); raise SystemExit(1)", tmp_path).state == "out_of_memory"


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
def test_memory_that_is_not_to_be_had(tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28)); x = bytearray(2**30)"
    found = ended(limited, tmp_path)
    assert found.state == "out_of_memory"
    assert "MemoryError" in str(found.reason)


def test_killed_by_the_kernel_for_want_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([7, 8])
    monkeypatch.setattr("peftrec.benchmark.child._kill_count", lambda: next(counts))
    assert ended(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", tmp_path).state == "out_of_memory"


LAUNCHER = """E1127 torch/distributed/elastic/multiprocessing/api.py: failed (exitcode: {code}) local_rank: 1
Traceback (most recent call last):
  File "accelerate/commands/launch.py", line 1, in launch
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
peftrec FAILED
  exitcode  : {code} (pid: 1)
  error_file: <N/A>
============"""


@pytest.mark.parametrize(
    ("said", "state", "reason"),
    [
        (LAUNCHER.format(code=-9), "killed", "a process of the launch was ended by SIGKILL"),
        ("subprocess.CalledProcessError: Command 'x' died with <Signals.SIGKILL: 9>.", "killed", "ended by SIGKILL"),
        (f"peftrec: items.csv: row 3\n{LAUNCHER.format(code=1)}", "failed", "peftrec: items.csv: row 3"),
        (
            f"peftrec: step 3: out of memory\n{LAUNCHER.format(code=1)}",
            "out_of_memory",
            "peftrec: step 3: out of memory",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory\nsubprocess.CalledProcessError: 1",
            "out_of_memory",
            "CUDA out of",
        ),
    ],
)
def test_what_a_launcher_tells(tmp_path: Path, said: str, state: str, reason: str) -> None:
    """It exits with 1, however its processes ended."""
    found = ended(f"print({said!r}); raise SystemExit(1)", tmp_path)
    assert (found.state, found.exit_code) == (state, 1)
    assert reason in str(found.reason)


def test_a_process_of_a_launch_that_the_kernel_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([7, 8])
    monkeypatch.setattr("peftrec.benchmark.child._kill_count", lambda: next(counts))
    assert ended(f"print({LAUNCHER.format(code=-9)!r}); raise SystemExit(1)", tmp_path).state == "out_of_memory"


def test_memory_that_was_short_before_is_no_reason(tmp_path: Path) -> None:
    """A step that is taken again with less has been overcome."""
    overcome = "print('step 3 ran out of memory; it is taken again', flush=True)"
    found = ended(f"{overcome}; print('peftrec: the loss became nan'); raise SystemExit(1)", tmp_path)
    assert (found.state, str(found.reason).endswith("peftrec: the loss became nan")) == ("failed", True)
    found = ended(f"{overcome}; import os; os.kill(os.getpid(), {int(signal.SIGTERM)})", tmp_path)
    assert (found.state, str(found.reason).startswith("ended by SIGTERM")) == ("killed", True)
    found = ended(f"{overcome}; print('bad_alloc', flush=True); import os; os.abort()", tmp_path)
    assert found.state == "out_of_memory"


@pytest.mark.parametrize("deaf", [False, True])
def test_stopped(tmp_path: Path, deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.benchmark.child._END_SECONDS", 0.5)
    stop = threading.Event()
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN); " if deaf else ""
    code = f"import signal, time; {ignore}open({str(tmp_path / 'on')!r}, 'w').close(); time.sleep(60)"
    thread = threading.Thread(target=lambda: (_wait_for(tmp_path / "on"), stop.set()))
    thread.start()
    found = ended(code, tmp_path, stop)
    thread.join()
    assert (found.state, found.reason) == ("interrupted", None)
    assert found.seconds < 30


def test_an_interruption_here_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a session of its own, which Ctrl-C does not reach."""
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], _: threading.Event) -> bool:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr("peftrec.benchmark.child._wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ended("import time; time.sleep(60)", tmp_path)
    assert started[0].poll() is not None


def test_a_lock_outlives_who_took_it(tmp_path: Path) -> None:
    """A training goes on when who started it is killed: its lock is held as long as it runs."""
    folder, told = ResultFolder(tmp_path / "results"), tmp_path / "told"
    starter = os.fork()
    if starter == 0:
        with folder.locked("run") as lock:
            assert lock is not None
            training = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(lock,))
            told.write_text(str(training.pid), encoding="utf-8")
            os._exit(0)  # as if killed: nothing is cleaned up
    os.waitpid(starter, 0)
    training_pid = int(told.read_text(encoding="utf-8"))
    with folder.locked("run") as second:
        assert second is None
    with folder.locked("another") as free:
        assert free is not None
    os.kill(training_pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with folder.locked("run") as third:
            if third is not None:
                break
        time.sleep(0.02)
    else:
        pytest.fail("the lock of a process that is gone was not free")
    assert not list((tmp_path / "results").iterdir())


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
