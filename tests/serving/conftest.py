"""One tiny run, and services on it."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from peftrec.serving.app import create_app
from peftrec.serving.service import Service
from peftrec.serving.settings import ServiceSettings
from peftrec.serving.sqlite_store import SqliteStore

Client = TestClient


@pytest.fixture(scope="session")
def served_run(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; read only."""
    from peftrec.run import train

    folder = tmp_path_factory.mktemp("served") / "run"
    train(make_recipe("training.num_epochs=1", output_dir=folder))
    return folder


@pytest.fixture(scope="session")
def shop_data(write_toy: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data with more columns: prices of items, kinds of events, a table of users."""
    data = write_toy(tmp_path_factory.mktemp("shop"))
    head, *rows = (data / "items.csv").read_text().splitlines()
    priced = [f"{row},{number % 10 + 0.5}" for number, row in enumerate(rows)]
    (data / "items.csv").write_text("\n".join([f"{head},price", *priced]) + "\n")
    head, *rows = (data / "interactions.csv").read_text().splitlines()
    kinds = [f"{row},{'view' if number % 3 else 'buy'}" for number, row in enumerate(rows)]
    (data / "interactions.csv").write_text("\n".join([f"{head},event", *kinds]) + "\n")
    tastes = dict(row.split(",")[:2] for row in rows)
    known = [f"{user},{20 + len(item)},{item[:-1]}" for user, item in tastes.items()]
    (data / "users.csv").write_text("\n".join(["user_id,age,taste", *known]) + "\n")
    return data


@pytest.fixture(scope="session")
def shop_run(make_recipe: Callable[..., Any], shop_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose items have fields; read only."""
    from peftrec.run import train

    folder = tmp_path_factory.mktemp("shop_run") / "run"
    fields = 'data.item_fields=["category", "price"]'
    train(make_recipe("training.num_epochs=1", "method.kind=frozen", fields, output_dir=folder, data=shop_data))
    return folder


@pytest.fixture(scope="session")
def start_service() -> Iterator[Callable[..., TestClient]]:
    """The function that starts a service in this process; what it returns sends requests to it."""
    with ExitStack() as running:

        def start(run: Path, store: Path, **changes: Any) -> TestClient:
            settings = dataclasses.replace(ServiceSettings(run=run, store=store, rate=0, poll_seconds=0.05), **changes)
            app = create_app(Service(settings, SqliteStore(store, settings.owner)))
            client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
            return running.enter_context(client)

        yield start


@pytest.fixture(scope="session")
def shared_client(
    served_run: Path, start_service: Callable[..., TestClient], tmp_path_factory: pytest.TempPathFactory
) -> TestClient:
    """A service for tests that leave its items alone and name users of their own."""
    return start_service(served_run, tmp_path_factory.mktemp("store") / "events.db")


@pytest.fixture(scope="session")
def listen() -> Iterator[Callable[[Service], str]]:
    """The function that lets a service listen on a free port of this machine; it returns the address."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def listen(service: Service) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_config=None, access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield listen
    for server, thread in servers:
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(served_run: Path, start_service: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    """A service of the test's own."""
    return start_service(served_run, tmp_path / "events.db")
