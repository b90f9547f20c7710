"""A log that forgets a user, while others write to it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from peftrec.retrieval.rules import Audit, AuditLog, AuditUnavailable

ROW = {"rule": "r", "item": "a", "reason": "so"}


def log_at(path: Path, max_mib: float = 16.0, keep: int = 50) -> AuditLog:
    return AuditLog(Audit(file=str(path), max_mib=max_mib, keep=keep, user_ids=True))


def rows_in(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for one in folder.iterdir() for line in one.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", ["anna", 'a "b" \\ c', "名前", "a[b]*", "\u202e\x00x", "\ud800"])
def test_a_user_is_taken_out_of_all_files(tmp_path: Path, name: str) -> None:
    log = log_at(tmp_path / "log [1].jsonl", max_mib=300 / 2**20)
    for number in range(9):
        log.write([{**ROW, "item": f"{number}"}], name if number % 2 else f"{name} too")
    (tmp_path / "log [1].jsonl.99").write_text((tmp_path / "log [1].jsonl.1").read_text("utf-8"), "utf-8")
    (tmp_path / "log [1].jsonl.old").write_text("no part of it\n")
    named = sum(row.get("user") == name for row in rows_in_log(tmp_path))
    assert named > 4
    assert len(list(tmp_path.iterdir())) > 4
    assert log.forget(name) == named
    assert log.forget(name) == 0
    rows = rows_in_log(tmp_path)
    assert {row.get("user") for row in rows} == {None, f"{name} too"}
    assert {row["item"] for row in rows} == {f"{number}" for number in range(9)}
    assert (tmp_path / "log [1].jsonl.old").read_text() == "no part of it\n"
    log.write([ROW], name)
    assert log.forget(name) == 1


def rows_in_log(folder: Path) -> list[dict[str, str]]:
    files = [one for one in folder.iterdir() if not one.name.endswith(".old")]
    return [json.loads(line) for one in files for line in one.read_text("utf-8").splitlines()]


def test_who_can_read_it_stays_the_same_and_pieces_of_lines_go(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = log_at(path)
    log.write([ROW], "anna")
    path.chmod(0o600)
    with path.open("a") as file:
        file.write('{"time": "2026", "user": "anna"\n{"rule": "torn')
    assert log.forget("anna") == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"anna" not in path.read_bytes()
    assert path.read_text().endswith('{"rule": "torn')


def test_nothing_is_lost_while_users_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    # Each has a log of its own, as processes do.
    logs = [log_at(path, max_mib=4000 / 2**20, keep=400) for _ in range(4)]
    stop = threading.Event()

    def write(log: AuditLog, name: str) -> None:
        for number in range(120):
            log.write([{**ROW, "item": f"{name}{number}"}], f"user {number % 3}")

    def forget() -> None:
        while not stop.is_set():
            logs[3].forget("user 1")

    writers = [threading.Thread(target=write, args=(logs[place], "abc"[place])) for place in range(3)]
    forgetter = threading.Thread(target=forget)
    for thread in (*writers, forgetter):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    forgetter.join()
    logs[0].forget("user 1")
    rows = rows_in(tmp_path)
    assert sorted(row["item"] for row in rows) == sorted(f"{name}{number}" for name in "abc" for number in range(120))
    assert {row.get("user") for row in rows} == {None, "user 0", "user 2"}


def test_a_log_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = log_at(folder / "log.jsonl")
    log.write([ROW], "anna")
    real = __import__("os").write
    # A disk that is full takes a part of what is written.
    monkeypatch.setattr("os.write", lambda file, content: real(file, content[:10]))
    with pytest.raises(AuditUnavailable, match="No space left"):
        log.write([ROW], "bob")
    monkeypatch.undo()
    assert [row["user"] for row in rows_in(folder)] == ["anna"]
    (folder / "log.jsonl").unlink()
    folder.rmdir()
    with pytest.raises(AuditUnavailable, match="cannot be written"):
        log.write([ROW], "anna")
    with pytest.raises(AuditUnavailable, match="cannot be written anew"):
        log.forget("anna")
