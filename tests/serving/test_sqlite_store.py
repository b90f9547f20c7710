"""The store of events: durable, idempotent, ordered, shared, and able to forget."""

from __future__ import annotations

import concurrent.futures
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from peftrec.config import InputError
from peftrec.serving.event import Appended, Event, ItemContent, PastEvent
from peftrec.serving.event_store import EventStore, StoreConflict, StoreCounts, StoreUnavailable
from peftrec.serving.sqlite_store import SqliteStore

CONTENT = ItemContent(text="green tea", title="Tea", attributes={"price": 3}, fields={"category": ["tea"]})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, "run")
    yield store
    store.close()


def ids(past: list[PastEvent]) -> list[str]:
    return [event.item_id for event in past]


def test_it_is_an_event_store(store: SqliteStore) -> None:
    checked: EventStore = store
    assert checked.counts() == StoreCounts(events=0, changed_items=0)


def test_histories_are_ordered_by_time_then_arrival_and_the_newest_are_kept(store: SqliteStore) -> None:
    events = [
        Event("1", "ann", "late", 300), Event("2", "ann", "early", 100), Event("3", "ann", "tie a", 200),
        Event("4", "bob", "other", 250), Event("5", "ann", "tie b", 200, "view"),
    ]  # fmt: skip
    assert store.append(events).result() == Appended(stored=5, repeated=0)
    assert ids(store.history("ann", 10)) == ["early", "tie a", "tie b", "late"]
    assert store.history("ann", 2) == [PastEvent("tie b", "view", 200, "5"), PastEvent("late", None, 300, "1")]
    assert store.history("nobody", 10) == []


def test_events_without_time_happened_when_they_came(store: SqliteStore) -> None:
    for number in range(3):
        store.append([Event(str(number), "ann", f"item {number}")]).result()
    past = store.history("ann", 10)
    assert ids(past) == ["item 0", "item 1", "item 2"]
    assert past[0].time_ms > 1_700_000_000_000


def test_an_event_is_stored_once(store: SqliteStore) -> None:
    event = Event("e", "ann", "tea")
    assert store.append([event, event]).result() == Appended(stored=1, repeated=1)
    assert store.append([event]).result() == Appended(stored=0, repeated=1)
    for other in (
        Event("e", "bob", "tea"),
        Event("e", "ann", "wine"),
        Event("e", "ann", "tea", 5),
        Event("e", "ann", "tea", None, "view"),
    ):
        with pytest.raises(StoreConflict, match="id 'e' and other content"):
            store.append([Event("fresh", "ann", "x"), other]).result()
    assert ids(store.history("ann", 10)) == ["tea"], "a request is stored as a whole or not at all"
    assert store.counts().events == 1


def test_what_others_write_at_the_same_time_is_not_undone_by_a_conflict(store: SqliteStore) -> None:
    store.append([Event("taken", "ann", "tea")]).result()
    futures = [
        store.append([Event(f"e{number}", "bob", "x"), *([Event("taken", "bob", "y")] if number % 3 == 0 else [])])
        for number in range(300)
    ]
    refused = [number for number, future in enumerate(futures) if future.exception() is not None]
    assert refused == list(range(0, 300, 3))
    assert len(store.history("bob", 1000)) == 200
    assert store.counts().events == 201


@pytest.mark.parametrize(
    "name",
    ["'; DROP TABLE events; --", "../../etc/passwd", "名前 🙂", "a\x00b", "\u00e9", "e\u0301", " ", "x" * 5000, "%_"],
)
def test_ids_of_all_kinds_are_only_ids(store: SqliteStore, name: str) -> None:
    store.append([Event(f"{name}1", name, name), Event("other", f"{name} ", "x")]).result()
    assert ids(store.history(name, 10)) == [name]
    assert store.delete_user(name).result() == 1
    assert store.history(name, 10) == []
    assert store.counts().events == 1


def test_a_text_that_no_file_can_hold_fails_alone(store: SqliteStore) -> None:
    bad, good = store.append([Event("a", "\ud800", "x")]), store.append([Event("b", "ann", "x")])
    assert isinstance(bad.exception(), StoreUnavailable)
    assert good.result() == Appended(stored=1, repeated=0)


def bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


@pytest.mark.parametrize("seed", [1, 6, 9, 10])
def test_of_a_deleted_user_no_byte_remains(path: Path, seed: int) -> None:
    """Lengths and orders vary, so that pages are split and rearranged, which leaves copies behind in them."""
    store = SqliteStore(path, "run")
    draw = random.Random(seed)
    names = [draw.randbytes(draw.choice([6, 12, 60])).hex() for _ in range(60)]
    events = [
        Event(draw.randbytes(draw.choice([4, 9, 40])).hex() + name, name, f"of {name[:12]}", draw.randrange(10**12))
        for name in names
        for _ in range(draw.randrange(1, 60))
    ]
    draw.shuffle(events)
    gone: set[str] = set()
    for start in range(0, len(events), 50):
        store.append([event for event in events[start : start + 50] if event.user_id not in gone]).result()
        if draw.random() < 0.5 and len(gone) < len(names):
            name = draw.choice([name for name in names if name not in gone])
            gone.add(name)
            assert store.delete_user(name).result() == sum(e.user_id == name for e in events[: start + 50])
            assert name[:12].encode() not in bytes_of(path)
    assert len(gone) > 5
    for name in names:
        expected = 0 if name in gone else sum(event.user_id == name for event in events)
        assert len(store.history(name, 1000)) == expected
    assert store.counts().events == sum(event.user_id not in gone for event in events)
    store.close()
    everything = bytes_of(path)
    assert {name for name in names if name[:12].encode() in everything} == set(names) - gone


def test_a_deletion_that_a_reader_holds_up_says_so(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peftrec.serving.group_commit._ERASE_TRIES", 1)
    monkeypatch.setattr("peftrec.serving.sqlite_file._WAIT_SECONDS", 0.05)
    store.append([Event("e", "ann", "tea"), Event("f", "bob", "tea")]).result()
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    store._commits._connection.execute("PRAGMA busy_timeout = 50")
    future, other = store.delete_user("ann"), store.append([Event("g", "bob", "tea")])
    with pytest.raises(StoreUnavailable, match=r"copies may remain in the files \(a reader holds the log open\)"):
        future.result()
    assert other.result() == Appended(stored=1, repeated=0)
    reader.close()
    assert store.delete_user("ann").result() == 0
    assert b"ann" not in bytes_of(path)


def test_two_stores_on_one_file_see_each_other(store: SqliteStore, path: Path) -> None:
    other = SqliteStore(path, "run", check=False)

    def write(which: SqliteStore, number: int) -> None:
        which.append([Event(f"shared {number}", "ann", f"item {number}", number)]).result()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number in range(100):
            pool.submit(write, store, number)
            pool.submit(write, other, number)
    expected = [f"item {number}" for number in range(100)]
    assert ids(store.history("ann", 1000)) == ids(other.history("ann", 1000)) == expected
    assert other.counts().events == 100
    other.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        other.append([Event("late", "ann", "x")]).result()


def test_what_is_written_is_there_after_opening_again(store: SqliteStore, path: Path) -> None:
    store.append([Event("e", "ann", "tea", 7)]).result()
    store.add_items([("new", CONTENT)]).result()
    store.close()
    store.close()
    again = SqliteStore(path, "run")
    assert again.history("ann", 5) == [PastEvent("tea", None, 7, "e")]
    (change,) = again.item_changes(0)
    assert (change.item_id, change.content) == ("new", CONTENT)
    again.close()


def test_items_change(store: SqliteStore) -> None:
    (written,) = store.add_items([("new", CONTENT)]).result()
    assert written.before is None
    with pytest.raises(StoreConflict, match="item 'new' is in the catalogue already"):
        store.add_items([("fresh", CONTENT), ("new", CONTENT)]).result()
    other = ItemContent(text="black tea", title="Black", attributes={"price": 4})
    updated = store.update_item("new", other).result()
    assert (updated.before is not None and updated.before.content) == CONTENT
    assert [(c.number, c.item_id, c.content) for c in store.item_changes(written.number)] == [
        (updated.number, "new", other)
    ]
    removed = store.remove_item("new").result()
    for refused in (store.remove_item("new"), store.update_item("new", other)):
        with pytest.raises(StoreConflict, match="item 'new' was removed"):
            refused.result()
    assert [change.content for change in store.item_changes(updated.number)] == [None]
    assert store.item_changes(removed.number) == []
    (again,) = store.add_items([("new", CONTENT)]).result()
    assert again.number > removed.number
    assert store.counts().changed_items == 1
    # An item of the run itself is no item of the store until it changes.
    assert store.remove_item("of the run").result().before is None


def test_a_change_is_taken_back_unless_another_came_after(store: SqliteStore) -> None:
    (written,) = store.add_items([("new", CONTENT)]).result()
    number = store.revert_item("new", written).result()
    # Others may have taken it in already: they are told that it is gone.
    assert [(change.number, change.content) for change in store.item_changes(0)] == [(number, None)]
    assert store.revert_item("new", written).result() is None
    (first,) = store.add_items([("new", CONTENT)]).result()
    removed = store.remove_item("new").result()
    store.revert_item("new", first).result()
    assert [change.content for change in store.item_changes(0)] == [None]
    store.revert_item("new", removed).result()
    assert [change.content for change in store.item_changes(0)] == [CONTENT]
    own = store.update_item("of the run", CONTENT).result()
    assert store.revert_item("of the run", own).result() is None
    assert [change.item_id for change in store.item_changes(0)] == ["new"]


def test_attributes_that_an_update_leaves_out_stay(store: SqliteStore) -> None:
    store.add_items([("new", CONTENT)]).result()
    store.update_item("new", ItemContent(text="x", title="y")).result()
    assert [change.content for change in store.item_changes(0)] == [ItemContent("x", "y", {"price": 3}, None)]


def test_reloads_are_counted(store: SqliteStore) -> None:
    assert store.reload_number() == 0
    assert store.request_reload().result() == 1
    assert store.reload_number() == 1


def test_nobody_else_reads_the_file(store: SqliteStore, path: Path) -> None:
    store.append([Event("e", "ann", "tea")]).result()
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


def test_files_that_are_no_store_of_this_run(tmp_path: Path, store: SqliteStore, path: Path) -> None:
    with pytest.raises(InputError, match=r"holds the events of run, not of other.*--adopt-store"):
        SqliteStore(path, "other")
    SqliteStore(path, "other", adopt=True).close()
    with pytest.raises(InputError, match="holds the events of other, not of run"):
        SqliteStore(path, "run")
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE x (y)")
    with pytest.raises(InputError, match=r"foreign\.db: is an SQLite database of something else"):
        SqliteStore(foreign, "run")
    text = tmp_path / "notes.txt"
    text.write_text("a shopping list\n" * 100)
    with pytest.raises(InputError, match=r"notes\.txt: is damaged or no event store"):
        SqliteStore(text, "run")
    assert text.read_text().startswith("a shopping list")
    with pytest.raises(InputError, match="there is no folder"):
        SqliteStore(tmp_path / "nowhere" / "store.db", "run")
    with pytest.raises(InputError, match="cannot be opened"):
        SqliteStore(tmp_path, "run")


def test_a_store_of_another_version_is_refused(store: SqliteStore, path: Path) -> None:
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InputError, match="has layout 99 of the event store, and this peftrec knows 1"):
        SqliteStore(path, "run")


def test_damage_is_seen(store: SqliteStore, path: Path) -> None:
    for start in range(0, 3000, 500):
        store.append([Event(f"e{n}", f"user {n % 7}", "tea", n) for n in range(start, start + 500)]).result()
    store.close()
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:8192] + b"\xff" * 4096 + whole[12288:]):
        path.write_bytes(damage)
        with pytest.raises(InputError, match=r"store\.db: is damaged"):
            SqliteStore(path, "run")


def test_an_error_of_the_disk_refuses_and_the_next_write_goes_on(store: SqliteStore) -> None:
    connection = store._commits._connection
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    large = [Event(f"e{number}", "ann", "x" * 200, number) for number in range(200)]
    assert isinstance(store.append(large).exception(), StoreUnavailable)
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.append(large).result() == Appended(stored=200, repeated=0)
