"""`serve(settings, host, port)`: the service in one process, or in several on one socket and one store."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from peftrec.config import InputError
from peftrec.serving.app import create_app
from peftrec.serving.event_store import EventStore
from peftrec.serving.service import Service
from peftrec.serving.settings import ServiceSettings
from peftrec.serving.sqlite_store import SqliteStore

_BACKLOG: Final = 1024
_GRACE_SECONDS: Final = 10
# Longer than the 60 seconds for which load balancers keep connections: who closes last loses no request.
_IDLE_SECONDS: Final = 75
_LOOK_SECONDS: Final = 0.2
# A worker that ends so soon after its start would end so again.
_SOON_SECONDS: Final = 30.0


def serve(
    settings: ServiceSettings,
    host: str,
    port: int,
    *,
    workers: int = 1,
    adopt: bool = False,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP loads the run folder again.

    Args:
        settings: of the service.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        workers: processes that share the socket and the store.
        adopt: let the store belong to this run from now on.
        say: is handed the address, once requests can be sent.
    Raises:
        InputError: if the run, the store or the address cannot be used.
    """
    listener = _listener(host, port)
    try:
        store = SqliteStore(settings.store, settings.owner, adopt=adopt)
    except InputError:
        listener.close()
        raise
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    # Until there is somebody to hear it, a reload has nothing to do: what is loaded is what is there now.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if workers == 1:
            _work(settings, store, listener, lambda: say(address))
        else:
            _share(settings, store, listener, workers, lambda: say(address))
    finally:
        signal.signal(signal.SIGHUP, before)
        store.close()
        listener.close()


def _listener(host: str, port: int) -> socket.socket:
    listener = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sends at once only what is TCP by name; else an answer waits 40 ms for the client's acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise InputError(f"cannot listen on {host}, port {port}: {error}") from None
    return listener


def _work(settings: ServiceSettings, store: EventStore, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve in this process."""
    service = Service(settings, store)
    log = logging.getLogger("peftrec.serving")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,  # it would log paths, which name users
        proxy_headers=False,  # anybody may write them
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=_IDLE_SECONDS,
        ws="none",
    )
    ready()
    uvicorn.Server(config).run(sockets=[listener])


def _work_beside(settings: ServiceSettings, listener: socket.socket, are_ready: Semaphore) -> None:
    """Serve in one of several processes."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the terminal it reaches all; the first process passes it on
    threading.Thread(target=_end_with_parent, name="peftrec-parent", daemon=True).start()
    try:
        _work(settings, SqliteStore(settings.store, settings.owner, check=False), listener, are_ready.release)
    except InputError as error:
        sys.exit(f"peftrec: {error}")
    except KeyboardInterrupt:
        sys.exit(0)


def _end_with_parent() -> None:
    """End when the first process is gone, however it ended: nobody would restart or stop this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    signal.raise_signal(signal.SIGTERM)


def _share(
    settings: ServiceSettings, store: EventStore, listener: socket.socket, workers: int, ready: Callable[[], None]
) -> None:
    """Start workers, start those anew that die, and pass signals on."""
    folder = Path(tempfile.mkdtemp(prefix="peftrec-metrics-"))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # read when a worker imports prometheus_client
    settings = dataclasses.replace(
        settings, metrics_folder=folder, threads=settings.threads or max(1, (os.cpu_count() or 1) // workers)
    )
    context = multiprocessing.get_context("spawn")
    are_ready = context.Semaphore(0)
    asked: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def start() -> tuple[BaseProcess, float]:
        process = context.Process(target=_work_beside, args=(settings, listener, are_ready))
        process.start()
        return process, time.monotonic()

    running = [start() for _ in range(workers)]
    missing = workers
    try:
        while not {signal.SIGINT, signal.SIGTERM} & set(asked):
            if missing and are_ready.acquire(timeout=_LOOK_SECONDS):
                missing -= 1
                if not missing:
                    ready()
            elif not missing:
                time.sleep(_LOOK_SECONDS)
            while signal.SIGHUP in asked:
                asked.remove(signal.SIGHUP)
                store.request_reload()  # which all workers look for
            for place, (process, since) in enumerate(running):
                if process.exitcode is None:
                    continue
                if time.monotonic() - since < _SOON_SECONDS and process.exitcode > 0:
                    raise InputError(f"worker {place + 1} of {workers} ended with exit code {process.exitcode}")
                logging.getLogger("peftrec.serving").warning("worker %d has ended and is started anew", place + 1)
                running[place] = start()
    finally:
        for process, _ in running:
            process.terminate()
        for process, _ in running:
            process.join(_GRACE_SECONDS + 5)
            process.kill()
            process.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(folder, ignore_errors=True)
