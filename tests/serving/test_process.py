"""`peftrec serve` as processes: started, shared, killed, reloaded, and refused."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peftrec.cli import main

Start = Callable[..., tuple[subprocess.Popen[str], str]]


def send(address: str, path: str, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address + path, data, {"Content-Type": "application/json", **headers}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def start(served_run: Path, tmp_path: Path) -> Iterator[Start]:
    """The function that starts `peftrec serve` and returns it with its address."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str, run: Path = served_run) -> tuple[subprocess.Popen[str], str]:
        command = [
            sys.executable,
            "-m",
            "peftrec",
            "serve",
            str(run),
            "--port",
            "0",
            "--store",
            str(tmp_path / "events.db"),
        ]
        log = tmp_path / f"log{len(running)}"
        with log.open("w") as file:
            process = subprocess.Popen([*command, *words], stderr=file, text=True)
        running.append(process)
        while not (found := re.search(r"serving .* on (http\S+)\n", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        return process, found[1]

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


def load(address: str, acknowledged: list[str], stop: threading.Event, name: str) -> None:
    """Send events until the service is gone, and note those that it has acknowledged."""
    number = 0
    while not stop.is_set():
        number += 1
        events = [{"event_id": f"{name}.{number}.{place}", "user_id": name, "item_id": "tea1"} for place in range(3)]
        with contextlib.suppress(OSError, ValueError):
            status, answer = send(address, "/v1/events", {"events": events})
            if status == 200 and answer["stored"] == 3:
                acknowledged += [event["event_id"] for event in events]
                continue
        return


def require_whole(store: Path, acknowledged: list[str]) -> None:
    """Require that what was acknowledged is there, each once, and what was under way whole or not at all."""
    connection = sqlite3.connect(store)
    stored = [event_id for (event_id,) in connection.execute("SELECT event_id FROM events")]
    assert len(set(acknowledged)) == len(acknowledged)
    assert len(set(stored)) == len(stored), "none is doubled"
    assert set(acknowledged) <= set(stored), "none is lost"
    requests = Counter(event_id.rpartition(".")[0] for event_id in stored)
    assert set(requests.values()) == {3}
    assert connection.execute("SELECT value FROM facts WHERE name = 'events'").fetchone() == (len(stored),)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_no_acknowledged_event_is_lost_by_twenty_kills(start: Start, tmp_path: Path) -> None:
    draw = random.Random(1)
    acknowledged: list[str] = []
    for kill in range(20):
        before = len(acknowledged)
        process, address = start()
        stop = threading.Event()
        senders = [
            threading.Thread(target=load, args=(address, acknowledged, stop, f"{kill}-{number}")) for number in range(4)
        ]
        for sender in senders:
            sender.start()
        eventually(lambda before=before: len(acknowledged) > before)
        time.sleep(draw.uniform(0.0, 2.0))
        process.send_signal(signal.SIGKILL)
        stop.set()
        for sender in senders:
            sender.join()
        process.wait()
    require_whole(tmp_path / "events.db", acknowledged)


WRITER = """
import sys
from peftrec.serving.event import Event
from peftrec.serving.sqlite_store import SqliteStore

store = SqliteStore(sys.argv[1], "run")

def say(future, ids):
    if future.exception() is None:
        sys.stdout.write(" ".join(ids) + "\\n")
        sys.stdout.flush()

for number in range(10**9):
    ids = [f"{sys.argv[2]}.{number}.{place}" for place in range(3)]
    future = store.append([Event(name, "ann", "tea1") for name in ids])
    future.add_done_callback(lambda future, ids=ids: say(future, ids))
    if number % 8 == 7:  # some are written together
        future.result()
"""


def test_no_acknowledged_event_is_lost_by_a_kill(tmp_path: Path) -> None:
    """The store alone: it is what acknowledges; the slow test kills the whole service."""
    draw = random.Random(0)
    acknowledged: list[str] = []
    path = tmp_path / "events.db"
    for kill in range(6):
        command = [sys.executable, "-c", WRITER, str(path), str(kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged += process.stdout.readline().split()
            time.sleep(draw.uniform(0.0, 0.3))
            process.kill()
            lines = process.stdout.read().split("\n")
        acknowledged += [event_id for line in lines[:-1] for event_id in line.split()]
    assert len(acknowledged) > 18
    require_whole(path, acknowledged)


def children(process: subprocess.Popen[str]) -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    pids = [int(pid) for pid in text.split()]
    return [pid for pid in pids if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_workers_share_what_they_are_told(start: Start, served_run: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(served_run)
    process, address = start("--workers", "2", run=link)
    assert len(children(process)) == 2
    assert send(address, "/v1/items", {"items": [{"item_id": "new", "text": "red wine. wine"}]})[0] == 201
    time.sleep(0.6)  # what docs/serving.md states
    assert [send(address, "/v1/items/new")[0] for _ in range(20)] == 20 * [200]
    send(address, "/v1/events", {"events": [{"event_id": "e", "user_id": "ann", "item_id": "tea1"}]})
    assert [send(address, "/v1/users/ann/recommendations")[1]["fallback"] for _ in range(10)] == 10 * [None]
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        text = answer.read().decode()
    assert 'peftrec_requests_total{method="GET",route="/v1/items/{item_id}",status="200"} 20.0' in text
    # SIGHUP reloads all of them.
    process.send_signal(signal.SIGHUP)
    log = tmp_path / "log0"
    eventually(lambda: log.read_text().count("the run folder was loaded again: 41 items") == 2)
    assert "ann" not in re.sub(r"serving .*", "", log.read_text())
    # One worker dies: the others answer, and another comes in its place.
    first, second = children(process)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(children(process)) == 2 and first not in children(process))
    assert send(address, "/health")[0] == 200
    # The first process is killed: the others do not stay behind.
    left = children(process)
    process.kill()
    eventually(lambda: not any(map(is_alive, left)), 20)
    assert second in left


@pytest.mark.slow
def test_workers_share_the_log_of_what_rules_hid(start: Start, shop_run: Path, tmp_path: Path) -> None:
    rules, log = tmp_path / "rules.yaml", tmp_path / "suppressed.jsonl"
    rules.write_text("rules: [{kind: hide_matching, where: {category: wine}, name: no wine}]\n")
    words = ("--workers", "2", "--rate", "0", "--rules", str(rules), "--audit-log", str(log), "--audit-users")
    _, address = start(*words, run=shop_run)
    send(address, "/v1/events", {"events": [{"event_id": "e", "user_id": "Rosalind", "item_id": "wine0"}]})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: send(address, "/v1/users/Rosalind/recommendations"), range(60)))
    hidden = sum(len(answer["suppressed"]) for _, answer in found)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == hidden > 0
    assert {(line["user"], line["rule"]) for line in lines} == {("Rosalind", "no wine")}
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        assert f'peftrec_suppressed_total{{rule="no wine"}} {float(hidden)}' in answer.read().decode()
    assert send(address, "/v1/users/Rosalind", method="DELETE") == (200, {"deleted_events": 1})
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {key: value for key, value in line.items() if key != "user"} for line in lines
    ]
    assert not any(b"Rosalind" in file.read_bytes() for file in tmp_path.iterdir() if file.is_file())


def test_one_process_with_a_token_ends_when_it_is_told_to(start: Start, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-that-nobody-guesses\n")
    process, address = start("--token-file", str(token))
    assert send(address, "/v1/items")[0] == 401
    assert send(address, "/v1/items", Authorization="Bearer a-token-that-nobody-guesses")[0] == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)
    assert not (tmp_path / "events.db-wal").exists(), "closed in order"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "--host 0.0.0.0 lets other machines in"),
        (["--host", "::"], 2, "lets other machines in"),
        (["--host", "example.org"], 2, "lets other machines in"),
        (["--token-file", "nowhere"], 1, "nowhere: the token cannot be read"),
        (["--store", "nowhere/events.db"], 1, "there is no folder nowhere"),
        (["--host", "256.256.256.256", "--no-auth"], 1, "cannot listen on 256.256.256.256"),
    ],
)
def test_what_cannot_be_served(
    served_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    given = ["serve", str(served_run), "--store", str(tmp_path / "events.db"), "--port", "0", *words]
    assert main(given) == code
    assert said in capsys.readouterr().err


def test_tokens_that_can_be_guessed(
    served_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in ("short", "with spaces in its middle", "ünïcode-ünïcode-ünïcode"):
        monkeypatch.setenv("PEFTREC_TOKEN", token)
        assert main(["serve", str(served_run), "--store", str(tmp_path / "events.db")]) == 1
        shown = capsys.readouterr().err
        assert "PEFTREC_TOKEN: a token has at least 16" in shown
        assert token not in shown


@pytest.mark.parametrize(
    "words", [["--port", "65536"], ["--port", "-1"], ["--rate", "nan"], ["--rate", "-1"], ["--workers", "0"]]
)
def test_words_that_are_wrong(served_run: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", str(served_run), *words])


def test_answers_are_sent_at_once() -> None:
    from peftrec.serving.process import _listener

    with _listener("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP, "or asyncio leaves Nagle's algorithm on"


def test_a_run_that_cannot_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path), "--store", str(tmp_path / "events.db"), "--port", "0"]) == 1
    assert "peftrec: " in capsys.readouterr().err


def test_a_port_that_is_taken(served_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(served_run), "--store", str(tmp_path / "events.db"), "--port", port]) == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


def test_packages_that_are_missing_are_named(
    served_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(served_run)]) == 1
    assert "peftrec serve needs uvicorn: pip install 'peftrec[serve]'" in capsys.readouterr().err
