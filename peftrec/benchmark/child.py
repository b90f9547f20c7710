"""A run in a process of its own, and how that process ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from peftrec.training.out_of_memory import NO_MEMORY

State = Literal["ok", "failed", "killed", "out_of_memory", "interrupted"]

_POLL_SECONDS: Final = 0.2
# What an interrupted training is given to end in.
_END_SECONDS: Final = 60.0
_SHOWN_LINES: Final = 4
_SHOWN_LETTERS: Final = 600
# How much of the end of a log is looked at: a process may write more than memory holds.
_READ_BYTES: Final = 2**18
# How launchers tell that a process of theirs was ended by a signal; they themselves exit with 1.
_LAUNCHED: Final = re.compile(r"exitcode\s*:\s*-(\d+)|died with <Signals\.\w+: (\d+)>")
# Lines that end the report of an error, but for those of launchers; and what the C++ library says last.
_ERROR: Final = re.compile(
    r"(?!.*(?:CalledProcessError|ChildFailedError))(?:[\w.]+(?:Error|Exception)\b|terminate called)"
)
_OURS: Final = "peftrec: "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended.

    Args:
        state: `interrupted` where it was told to stop, which says nothing about the run.
        reason: the end of what it said, or the signal; None where all went well.
        exit_code: negative for a signal.
        seconds: by the clock.
    """

    state: State
    reason: str | None
    exit_code: int
    seconds: float


def run_child(
    command: Sequence[str], *, log: Path, threads: int, stop: threading.Event, held: Sequence[int] = ()
) -> Ended:
    """Run a command until it ends.

    Args:
        command: program and arguments.
        log: what it says is added to this file.
        threads: that it may compute with.
        stop: when set, the process is interrupted and waited for.
        held: open files that it keeps open: a lock among them is held as long as the process lives.
    """
    began, kills = time.monotonic(), _kill_count()
    with log.open("ab") as file:
        said_before = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            pass_fds=tuple(held),
            start_new_session=True,  # Ctrl-C reaches this process, which decides what becomes of the others
        )
        try:
            interrupted = _wait(process, stop)
        except BaseException:  # such as Ctrl-C here, which does not reach the process by itself
            _end(process)
            raise
    code = process.returncode
    said = _said(log, said_before)
    sign = -code if code < 0 else _launched_signal(code, said)
    state = "interrupted" if interrupted and code else _state(code, sign, said, kills)
    reason = None if state in ("ok", "interrupted") else _reason(code, sign, said)
    return Ended(state=state, reason=reason, exit_code=code, seconds=time.monotonic() - began)


def peftrec_command(words: Sequence[str], launch: str | None = None) -> list[str]:
    """Return a command of the library for `run_child`.

    Args:
        words: as behind `peftrec`.
        launch: configuration of `accelerate launch`; None starts one process.
    """
    if launch is None:
        return [sys.executable, "-m", "peftrec", *words]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", launch]
    return [*launcher, "-m", "peftrec", *words]


def _wait(process: subprocess.Popen[bytes], stop: threading.Event) -> bool:
    """Wait for the end, and return whether it was asked for."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return False
        if stop.is_set():
            _end(process)
            return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and those that it started, and kill them where they do not end by themselves."""
    for sign, seconds in ((signal.SIGINT, _END_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break


def _state(code: int, sign: int, said: str, kills_before: int) -> State:
    if code == 0:
        return "ok"
    if sign == signal.SIGKILL and _kill_count() > kills_before:
        return "out_of_memory"
    if sign in (0, signal.SIGABRT) and any(words in _last_error(said) for words in ("memoryerror", *NO_MEMORY)):
        return "out_of_memory"
    return "killed" if sign else "failed"


def _launched_signal(code: int, said: str) -> int:
    """Return the signal that ended a process of a launch, as the launcher tells it; 0 for none."""
    found = _LAUNCHED.findall(said) if code else []
    return int("".join(found[-1])) if found else 0


def _last_error(said: str) -> str:
    """Return the line of the last error, or the last few lines: what was overcome before is none of the reason."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(_OURS) or _ERROR.match(line)]
    return (errors[-1] if errors else " ".join(lines[-_SHOWN_LINES:])).lower()


def _reason(code: int, sign: int, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last, ours = lines[-_SHOWN_LINES:], [line for line in lines if line.startswith(_OURS)]
    if ours and ours[-1] not in last:  # a launcher has added a report of its own
        last = [ours[-1]]
    told = " ".join(last)[-_SHOWN_LETTERS:]
    if not sign:
        return told or f"exit code {code}, without a word"
    try:
        name = signal.Signals(sign).name
    except ValueError:  # those for applications have no name
        name = f"signal {sign}"
    if code > 0:
        return f"a process of the launch was ended by {name}"
    return f"ended by {name}{f', after: {told}' if told else ''}"


def _said(log: Path, start: int) -> str:
    """Return the end of what was added to a log."""
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - _READ_BYTES))
        return file.read().decode(errors="replace")


def _kill_count() -> int:
    """Return how many processes the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
