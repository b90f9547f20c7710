"""How fast `peftrec serve` answers under load, from a second process.

    python benchmarks/serving_load.py RUN                              # every scenario, as they are stated
    python benchmarks/serving_load.py RUN --scenario lists_20k --seconds 60
    python benchmarks/serving_load.py RUN --scenario soak --results DIR    # writes DIR/soak.json
    python benchmarks/serving_load.py --results DIR --document docs/serving.md

RUN is a trained run; for the figures of the documents one with a transformer over the history and vectors of 64. Its
catalogue is tiled to the number of items of a scenario, each copy with noise of a tenth of a vector's length, so that
neighbours are like those of real items; titles and texts are those of the originals. The service runs in a process of
its own, with its store on the disk, as the command starts it. Requests are sent at fixed moments whether or not those
before have been answered (an open loop), and times count from those moments: a service that falls behind is seen to.
Every history is drawn anew; nothing is cached. One JSON document is printed for each scenario, and written to the
folder of results; with --document, a table of all that lie there is written between two marks of a Markdown file.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HISTORY, K, CONNECTIONS, SEED = 20, 10, 64, 0
IDLE_SECONDS = 30.0  # a kept connection that rested longer is left alone: the service closes it some time
MARK = "<!-- load -->"
LOADS = {
    "lists": "lists",
    "explain": "lists of 10 with explanations",
    "event_to_list": "event, then the user's list",
    "item_to_list": "new item, then a list with it",
    "mixed": "lists, events, similar items",
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is sent, how often, to a catalogue of what size."""

    items: int
    index: str
    kind: str
    rate: float
    seconds: float


SCENARIOS = {
    "lists_20k": Scenario(20_000, "exact", "lists", 50, 60),
    "lists_1m_exact": Scenario(1_000_000, "exact", "lists", 5, 60),
    "lists_1m_hnsw": Scenario(1_000_000, "hnsw", "lists", 50, 60),
    "explain": Scenario(20_000, "exact", "explain", 5, 60),
    "event_to_list": Scenario(20_000, "exact", "event_to_list", 5, 30),
    "item_to_list": Scenario(20_000, "exact", "item_to_list", 2, 30),
    "soak": Scenario(20_000, "exact", "mixed", 50, 600),
}


def main() -> None:
    """Run the scenarios that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="run folder; without one nothing is measured")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="this one (repeatable); else all")
    parser.add_argument("--seconds", type=float, help="so long instead of what the scenario says")
    parser.add_argument("--items", type=int, help="so many items instead of what the scenario says")
    parser.add_argument("--results", type=Path, help="write each document to this folder, as SCENARIO.json")
    parser.add_argument("--document", type=Path, help=f"Markdown file with the mark {MARK} before and after its table")
    arguments = parser.parse_args()
    if arguments.document is not None and arguments.results is None:
        parser.error("--document reads what lies in --results")
    if arguments.run is not None:
        _measure_all(arguments)
    if arguments.document is not None:
        write_table(arguments.document, arguments.results)


def _measure_all(arguments: argparse.Namespace) -> None:
    from peftrec.publishing.environment import describe_environment

    for name in arguments.scenario or SCENARIOS:
        changes = {key: value for key in ("seconds", "items") if (value := getattr(arguments, key)) is not None}
        document = {"scenario": name} | measure(arguments.run, dataclasses.replace(SCENARIOS[name], **changes))
        document["environment"] = describe_environment()
        print(json.dumps(document), flush=True)
        if arguments.results is not None:
            arguments.results.mkdir(parents=True, exist_ok=True)
            (arguments.results / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_table(page: Path, results: Path) -> None:
    """Write the table of all results between the marks of a Markdown file.

    Raises:
        SystemExit: the file lacks the marks, or the folder lacks results.
    """
    parts = page.read_text(encoding="utf-8").split(MARK)
    if len(parts) != 3:
        sys.exit(f"{page}: must hold the mark {MARK} twice")
    measured = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    found = [measured[name] for name in SCENARIOS if name in measured]
    if not found:
        sys.exit(f"{results}: holds no result of any scenario ({', '.join(SCENARIOS)})")
    lines = ["| load | items | a second | seconds | median | p99 | longest | errors | memory |", "|---|" + "---:|" * 8]
    lines += [_line(document) for document in found]
    where = sorted({_where(document["environment"]) for document in found})
    page.write_text(f"{parts[0]}{MARK}\n" + "\n".join([*lines, "", *where]) + f"\n{MARK}{parts[2]}", encoding="utf-8")


def _line(document: dict[str, Any]) -> str:
    times = " | ".join(f"{document[key]:.1f} ms" for key in ("p50_ms", "p99_ms", "max_ms"))
    memory = f"{document['rss_mib_at_the_end']:,.0f} MiB ({document['rss_growth']:+.1%})"
    sent = f"{document['items']:,} | {document['rate']:g} | {document['seconds']:g}"
    errors = sum(document["errors"].values())
    return f"| {LOADS[document['kind']]}, {document['index']} | {sent} | {times} | {errors} | {memory} |"


def _where(environment: dict[str, Any]) -> str:
    machine = environment["machine"]
    torch = environment["packages"]["torch"]
    commit = (environment["commit"] or "unknown")[:7]
    return f"{machine['processor']}, {machine['cores']} cores, torch {torch}, commit {commit}."


def measure(run: Path, scenario: Scenario) -> dict[str, Any]:
    """Start the service, send the load, and describe the answers."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        service = context.Process(target=serve_tiled, args=(run, scenario, Path(folder) / "events.db", there))
        service.start()
        try:
            while not here.poll(1):
                if service.exitcode is not None:
                    sys.exit("the service has ended")
            port, ids = here.recv()
            sender = Sender(port, service.pid or 0, ids, scenario)
            return dataclasses.asdict(scenario) | asyncio.run(sender.run()) | {"cpus": os.cpu_count()}
        finally:
            service.terminate()
            service.join()


def serve_tiled(run: Path, scenario: Scenario, store: Path, pipe: Connection) -> None:
    """Serve a run whose catalogue has been tiled."""
    from peftrec.publishing import load_run
    from peftrec.recommender import Recommender
    from peftrec.serving import process
    from peftrec.serving.settings import ServiceSettings

    loaded = tiled(load_run(run), scenario)
    Recommender.from_pretrained = classmethod(lambda cls, *_, **__: cls(loaded))  # type: ignore[assignment]
    settings = ServiceSettings(run=run, store=store, rate=0)

    def say(address: str) -> None:
        pipe.send((int(address.rpartition(":")[2]), loaded.catalogue.ids))

    process.serve(settings, "127.0.0.1", 0, say=say)


def tiled(run: Any, scenario: Scenario) -> Any:
    """Return the run with as many items as the scenario wants, and its kind of index."""
    import torch

    from peftrec.data import Catalogue
    from peftrec.retrieval import INDEXES

    own, number = run.catalogue, scenario.items
    places = [place % len(own) for place in range(number)]
    generator = torch.Generator().manual_seed(SEED)
    vectors = run.vectors_ND[places]
    noise = torch.randn(vectors.shape, generator=generator)
    noise *= 0.1 * vectors.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    noise[: len(own)] = 0
    catalogue = Catalogue(
        ids=tuple(f"{own.ids[place]}~{copy // len(own)}" for copy, place in enumerate(places)),
        texts=tuple(own.texts[place] for place in places),
        titles=tuple(own.titles[place] for place in places),
    )
    index = INDEXES.classes()[scenario.index]()
    retrieval = dataclasses.replace(run.recipe.retrieval, index=index)
    return dataclasses.replace(
        run,
        recipe=dataclasses.replace(run.recipe, retrieval=retrieval),
        catalogue=catalogue,
        train_counts_N=run.train_counts_N[places],
        vectors_ND=vectors + noise,
        bias_N=run.bias_N[places],
    )


class Sender:
    """Sends at fixed moments over kept connections."""

    def __init__(self, port: int, pid: int, ids: tuple[str, ...], scenario: Scenario) -> None:
        self._port, self._pid, self._ids, self._scenario = port, pid, ids, scenario
        self._draw = random.Random(SEED)
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._number = 0
        self._ms: list[float] = []
        self._errors: dict[str, int] = {}
        self._rss_mib: list[tuple[float, float]] = []

    async def run(self) -> dict[str, Any]:
        """Send, wait for the last answers, and describe them."""
        for _ in range(20):
            await self._lists()
        self._ms.clear()
        watch = asyncio.create_task(self._watch())
        start, tasks = time.perf_counter(), []
        count = int(self._scenario.rate * self._scenario.seconds)
        for number in range(count):
            due = start + number / self._scenario.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._timed(due)))
        await asyncio.gather(*tasks)
        seconds = time.perf_counter() - start
        watch.cancel()
        return self._described(count, seconds)

    def _described(self, count: int, seconds: float) -> dict[str, Any]:
        ms = sorted(self._ms)
        late = [mib for at, mib in self._rss_mib if at > 0.1 * self._scenario.seconds] or [0.0]
        tenth = max(1, len(late) // 10)
        first, last = statistics.median(late[:tenth]), statistics.median(late[-tenth:])

        def percentile(share: float) -> float | None:
            return round(ms[min(len(ms) - 1, int(share * len(ms)))], 2) if ms else None

        return {
            "requests": count,
            "answered_per_second": round(len(ms) / seconds, 2),
            "p50_ms": percentile(0.5),
            "p90_ms": percentile(0.9),
            "p99_ms": percentile(0.99),
            "max_ms": percentile(1.0),
            "errors": self._errors,
            "rss_mib_after_a_tenth": round(first, 1),
            "rss_mib_at_the_end": round(last, 1),
            "rss_growth": round(last / first - 1, 4) if first else None,
            "load_average": round(os.getloadavg()[0], 2),
        }

    async def _timed(self, due: float) -> None:
        kind = self._scenario.kind
        try:
            if kind == "mixed":
                kind = self._draw.choices(("lists", "users", "events", "similar"), (40, 30, 25, 5))[0]
            await getattr(self, f"_{kind}")()
        except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
            name = f"{type(error).__name__}: {error}"[:100]
            self._errors[name] = self._errors.get(name, 0) + 1
            return
        self._ms.append(1000 * (time.perf_counter() - due))

    async def _lists(self) -> None:
        history = [self._draw.choice(self._ids) for _ in range(HISTORY)]
        await self._send("POST", "/v1/recommendations", {"history": history, "k": K})

    async def _explain(self) -> None:
        """A list of ten, each of its items explained, without words."""
        history = [self._draw.choice(self._ids) for _ in range(HISTORY)]
        answer = await self._send("POST", "/v1/recommendations", {"history": history, "k": K, "explain": True})
        if not all(item["explanation"]["evidence"] for item in answer["items"]):
            raise RuntimeError("an item was not explained")

    async def _users(self) -> None:
        await self._send("GET", f"/v1/users/user{self._draw.randrange(1000)}/recommendations?k={K}")

    async def _similar(self) -> None:
        await self._send("GET", f"/v1/items/{self._draw.choice(self._ids).replace('~', '%7E')}/similar?k={K}")

    async def _events(self) -> None:
        await self._send("POST", "/v1/events", {"events": [self._event(f"user{self._draw.randrange(1000)}")]})

    async def _event_to_list(self) -> None:
        """A user's first event: the list is that of a known user, and so another."""
        self._number += 1
        user = f"new{self._number}"
        await self._send("POST", "/v1/events", {"events": [self._event(user)]})
        answer = await self._send("GET", f"/v1/users/{user}/recommendations?k={K}")
        if answer["fallback"] is not None:
            raise RuntimeError("the event was not seen")

    async def _item_to_list(self) -> None:
        self._number += 1
        item = {"item_id": f"item {self._number}", "text": f"a new thing of kind {self._draw.random()}"}
        await self._send("POST", "/v1/items", {"items": [item]})
        history = [self._draw.choice(self._ids) for _ in range(HISTORY)]
        body = {"history": history, "k": 1, "filter": {"only": [item["item_id"]]}}
        answer = await self._send("POST", "/v1/recommendations", body)
        if not answer["items"]:
            raise RuntimeError("the item was not seen")

    def _event(self, user: str) -> dict[str, str]:
        self._number += 1
        return {"event_id": f"e{self._number}", "user_id": user, "item_id": self._draw.choice(self._ids)}

    async def _send(self, method: str, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n"
        head += "Content-Type: application/json\r\n\r\n" if content else "\r\n"
        async with self._free:
            reader, writer = await self._connection()
            writer.write(head.encode() + content)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            status = int(lines[0].split()[1])
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            answer = await reader.readexactly(length)
            self._idle.append((time.perf_counter(), reader, writer))
        if status >= 400:
            raise RuntimeError(f"{status} {answer.decode()}")
        return json.loads(answer)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            rested_since, reader, writer = self._idle.pop()
            if time.perf_counter() - rested_since < IDLE_SECONDS:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _watch(self) -> None:
        start = time.perf_counter()
        while True:
            text = Path(f"/proc/{self._pid}/status").read_text()
            kib = next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))
            self._rss_mib.append((time.perf_counter() - start, int(kib) / 1024))
            await asyncio.sleep(min(1.0, self._scenario.seconds / 100))


if __name__ == "__main__":
    main()
