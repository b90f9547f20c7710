"""Rules in the service: kept, counted, logged, loaded again, and a log that forgets whom it is told to forget."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from peftrec.cli import main
from peftrec.config import InputError

HISTORY = ["wine0", "wine1", "wine2"]
RULES = """
rules:
  - {kind: hide_matching, where: {category: cheese}, name: no cheese}
  - {kind: minimum_age, field: category, values: [wine], age: 18, name: adults}
  - {kind: at_most, field: category, most: 4, name: not too many}
"""
Start = Callable[..., TestClient]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def listed(client: TestClient, **more: Any) -> Any:
    answer = client.post("/v1/recommendations", json={"history": HISTORY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(client: TestClient) -> dict[str, float]:
    found = (line for line in client.get("/metrics").text.splitlines() if line.startswith("peftrec_suppressed_total"))
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in found}


def tell(client: TestClient, user: str, event: str = "e") -> None:
    events = [{"event_id": f"{event} {user} {item}", "user_id": user, "item_id": item} for item in HISTORY]
    assert client.post("/v1/events", json={"events": events}).status_code == 200


def test_rules_are_kept_told_and_counted(shop_run: Path, start_service: Start, rules: Path, tmp_path: Path) -> None:
    log = tmp_path / "suppressed.jsonl"
    client = start_service(shop_run, tmp_path / "events.db", rules=rules, audit_log=log)
    assert counts(client) == {"no cheese": 0, "adults": 0, "not too many": 0}
    child, grown = listed(client, age=12, details=True), listed(client, age=35, details=True)
    shown = [one["fields"]["category"] for one in child["items"]]
    assert not {"wine", "cheese"} & set(shown)
    assert [one["fields"]["category"] for one in grown["items"]].count("wine") == 4
    assert listed(client)["items"] == listed(client, age=12)["items"], "an age that is not told is below every age"
    hidden = [one for one in child["suppressed"] if one["rule"] == "adults"]
    assert hidden
    assert hidden[0]["title"].endswith("wine")
    assert hidden[0]["reason"]
    # Similar items and lists with other steps too.
    diverse = listed(client, age=12, diversity=0.9, details=True)["items"]
    assert not {"wine", "cheese"} & {one["fields"]["category"] for one in diverse}
    similar = client.get("/v1/items/wine0/similar?age=30&details=true").json()
    assert [one["fields"]["category"] for one in similar["items"]].count("wine") == 4
    assert similar["suppressed"]
    child = client.get("/v1/items/wine0/similar?age=3&details=true").json()
    assert "wine" not in {one["fields"]["category"] for one in child["items"]}
    # Counted and logged, each as often.
    found = counts(client)
    assert found["adults"] > 0
    assert found["not too many"] > 0
    assert (
        dict.fromkeys(found, 0.0)
        | {
            name: float(sum(line["rule"] == name for line in lines(log)))
            for name in {one["rule"] for one in lines(log)}
        }
        == found
    )
    # New items are judged before they are shown.
    item = {"item_id": "new", "text": "red wine. wine", "fields": {"category": "cheese"}}
    assert client.post("/v1/items", json={"items": [item]}).status_code == 201
    only = listed(client, age=50, filter={"only": ["new"]})
    assert only["items"] == []
    assert [one["rule"] for one in only["suppressed"]] == ["no cheese"]
    assert "rules" in only["reason"]
    offered = client.get("/v1/service").json()
    assert (offered["rules"], offered["ages"]) == (["no cheese", "adults", "not too many"], True)


def test_users_are_named_in_the_log_only_if_asked(
    shop_run: Path, start_service: Start, rules: Path, tmp_path: Path
) -> None:
    for asked in (False, True):
        log = tmp_path / f"log{asked}.jsonl"
        client = start_service(
            shop_run, tmp_path / f"{asked}.db", rules=rules, audit_log=log, audit_users=asked, log_users=True
        )
        tell(client, "Rosalind")
        assert client.get("/v1/users/Rosalind/recommendations").json()["suppressed"]
        listed(client)
        assert ("Rosalind" in log.read_text()) == asked
        assert log.stat().st_mode & 0o007 == 0, "not for all users of the machine"


def test_a_deleted_user_is_in_no_line_of_the_log(
    shop_run: Path, start_service: Start, rules: Path, tmp_path: Path
) -> None:
    rules.write_text(RULES + "audit: {file: elsewhere.jsonl, max_mib: 0.001, keep: 50}\n")
    folder = tmp_path / "store"
    folder.mkdir()
    start = {"rules": rules, "audit_log": folder / "log.jsonl", "audit_users": True}
    first, second = (start_service(shop_run, folder / "events.db", **start) for _ in range(2))
    name = 'Rosalind "R"/ünï'
    path = "/v1/users/Rosalind%20%22R%22%2F%C3%BCn%C3%AF"
    for user in (name, "Rosa"):
        tell(first, user)
    for client in (first, second):
        assert client.get(f"{path}/recommendations").json()["suppressed"]
        assert client.get("/v1/users/Rosa/recommendations").json()["suppressed"]
    everything = [file for file in folder.iterdir() if ".jsonl" in file.name]
    assert len(everything) > 3, "the log has been moved on"
    before = [line for file in everything for line in lines(file)]
    assert {line.get("user") for line in before} == {name, "Rosa"}
    assert first.delete(path).json() == {"deleted_events": 3}
    after = [line for file in folder.iterdir() if ".jsonl" in file.name for line in lines(file)]
    key = json.dumps
    expected = [{k: v for k, v in line.items() if k != "user" or v != name} for line in before]
    assert sorted(map(key, after)) == sorted(map(key, expected)), "what was hidden stays counted"
    for file in folder.iterdir():
        assert b"Rosalind" not in file.read_bytes(), file.name
    # Both go on with the new file.
    for client in (first, second):
        client.get("/v1/users/Rosa/recommendations")
    assert sum(len(lines(file)) for file in folder.iterdir() if ".jsonl" in file.name) > len(after)
    assert not (tmp_path / "elsewhere.jsonl").exists()


def test_rules_and_steps_are_read_again_with_the_run_and_refused_where_they_do_not_fit(
    shop_run: Path, served_run: Path, start_service: Start, rules: Path, tmp_path: Path
) -> None:
    steps, link = tmp_path / "steps.yaml", tmp_path / "current"
    steps.write_text("steps: [{kind: mmr, diversity: 0.2}]\n")
    link.symlink_to(shop_run)
    client = start_service(link, tmp_path / "events.db", rules=rules, reranking=steps)
    before = listed(client)

    def refused(said: str) -> None:
        answer = client.post("/v1/reload")
        assert answer.status_code == 409, answer.text
        message = answer.json()["error"]["message"]
        assert message.startswith("the old run goes on: ")
        assert said in message
        assert listed(client) == before

    link.unlink()
    link.symlink_to(served_run)  # whose items have no fields
    refused(f"{rules}, rule 1 ('no cheese'): items have no field 'category'")
    link.unlink()
    link.symlink_to(shop_run)
    rules.write_text("rules: [{kind: hide_item, items: [a]}]\n")
    refused("hide_item")
    rules.unlink()
    refused("rules.yaml")
    rules.write_text("rules: [{kind: hide_matching, where: {category: tea}, name: no tea}]\n")
    steps.write_text("steps: [{kind: cap, field: brand, most: 2}]\n")
    refused("items have no field 'brand'")
    steps.write_text("steps: [{kind: cap, field: category, most: 2}]\n")
    assert client.post("/v1/reload").status_code == 200
    offered = client.get("/v1/service").json()
    assert (offered["rules"], offered["reranking"]) == (["no tea"], ["cap"])
    assert "tea" not in {one["fields"]["category"] for one in listed(client, k=40, details=True)["items"]}
    assert counts(client)["no tea"] > 0


def test_a_log_that_cannot_be_written_is_said(
    shop_run: Path, start_service: Start, rules: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    client = start_service(shop_run, tmp_path / "events.db", rules=rules, audit_log=folder / "log.jsonl")
    (folder / "log.jsonl").unlink()
    folder.rmdir()
    answer = client.post("/v1/recommendations", json={"history": HISTORY})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "the log of what rules hid: cannot be written" in answer.json()["error"]["message"]
    assert client.delete("/v1/users/ann").status_code == 503
    folder.mkdir()
    assert listed(client)["suppressed"]
    assert client.delete("/v1/users/ann").status_code == 200


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--audit-log", "log.jsonl"], 2, "--audit-log is about what rules hide"),
        (["--audit-users"], 2, "--audit-users is about what rules hide"),
        (["--rules", "RULES", "--audit-users"], 2, "has no audit and so no log to name users in"),
        (["--rules", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["--rules", "RULES", "--audit-log", "nowhere/log.jsonl"], 1, "cannot be written"),
        (["--rules", "RULES"], 1, "rule 1 ('no cheese'): items have no field 'category'"),
        (["--reranking", "nowhere.yaml"], 2, "nowhere.yaml"),
    ],
)
def test_rules_that_cannot_be_served(
    served_run: Path, shop_run: Path, rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str],
    code: int, said: str,
) -> None:  # fmt: skip
    run = shop_run if "--audit-log" in words else served_run
    given = [str(rules) if word == "RULES" else word for word in words]
    assert main(["serve", str(run), "--store", str(tmp_path / "events.db"), "--port", "0", *given]) == code
    assert said in capsys.readouterr().err


def test_the_log_of_the_rules_file_may_be_the_one_that_names_users(
    shop_run: Path, start_service: Start, rules: Path, tmp_path: Path
) -> None:
    log = tmp_path / "own.jsonl"
    rules.write_text(RULES + f"audit: {{file: {log}}}\n")
    client = start_service(shop_run, tmp_path / "events.db", rules=rules, audit_users=True)
    tell(client, "ann")
    client.get("/v1/users/ann/recommendations")
    end = time.monotonic() + 5
    while not log.read_text():
        assert time.monotonic() < end
    assert {line["user"] for line in lines(log)} == {"ann"}
    rules.write_text("rules: [{kind: hide_item, items: [a]}]\n")
    with pytest.raises(InputError, match="hide_item"):
        start_service(shop_run, tmp_path / "other.db", rules=rules)
