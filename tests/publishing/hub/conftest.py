"""The double of the Hub, and a process whose client talks to it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent.parent
TOKEN, OTHER_TOKEN = "hf_" + "a" * 34, "hf_" + "b" * 34
BASE = "acme/tiny-bert"


def _load_double() -> Any:
    """Import the double as a package; tests are files of their own, in no package."""
    if "hub_double" not in sys.modules:
        folder = TESTS / "hub_double"
        spec = importlib.util.spec_from_file_location(
            "hub_double", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["hub_double"] = module
        spec.loader.exec_module(module)
    return sys.modules["hub_double"]


_load_double()

# Reads one JSON command a line, does it, and answers in one line; what it does is peftrec's, and the Hub's client's.
WORKER = '''
import json, os, sys, time, warnings
warnings.simplefilter("ignore")
from huggingface_hub import constants
from huggingface_hub.utils import _http
import huggingface_hub.file_download as file_download
from pathlib import Path

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

class Brief:
    """The client waits for seconds between tries; tests do not."""
    def __getattr__(self, name):
        return getattr(time, name)
    sleep = staticmethod(lambda seconds: time.sleep(min(seconds, 0.02)))

_http.time = file_download.time = Brief()
constants.DOWNLOAD_CHUNK_SIZE = 64  # small files shall come in pieces, as large ones do

def push(run, repo, **options):
    from peftrec.publishing.hub import push_run
    if "language" in options:
        options["language"] = tuple(options["language"])
    return push_run(run, repo, **options).to_json()

def pull(repo, folder):
    from peftrec.publishing.hub import pull_run
    return str(pull_run(repo, folder))

def recommend(run, histories, k=5, **options):
    from peftrec import Recommender
    lists = Recommender.from_pretrained(run, **options).recommend_batch(histories, k)
    return [[(row.item_id, row.score) for row in found] for found in lists]

def recommender_push(run, repo, added=False, **options):
    from peftrec import Recommender
    recommender = Recommender.from_pretrained(run)
    if added:
        recommender.add_items(["new"], ["small red wine. wine"])
    return recommender.push_to_hub(repo, **options).to_json()

def backbone(name, revision=None):
    from peftrec.encoders import load_backbone
    return load_backbone(name, revision).base.revision

def main(*words):
    import contextlib, io
    from peftrec.cli import main as run
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(words))
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}

for line in sys.stdin:
    command = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if command["token"]:
        os.environ["HF_TOKEN"] = command["token"]
    constants.HF_HUB_CACHE = command["cache"] or os.environ["HF_HUB_CACHE"]
    constants.HF_HUB_OFFLINE = command["offline"]
    constants.ENDPOINT = command["endpoint"] or os.environ["HF_ENDPOINT"]
    constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    try:
        answer = {"result": globals()[command["call"]](*command["arguments"], **command["options"])}
    except Exception as error:
        import traceback
        traceback.print_exc()
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), file=answers, flush=True)
'''


class Failed(Exception):  # noqa: N818
    """What a command of the worker raised.

    Args:
        kind: name of the error's class.
        message: of it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class Worker:
    """A process with peftrec in it, whose client of the Hub talks to the double."""

    def __init__(self, address: str, home: Path) -> None:
        environment = {
            **os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
            "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5",
        }  # fmt: skip
        environment.pop("HF_HUB_OFFLINE", None)
        self.environment = environment
        self.log = home / "worker.log"
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=environment, text=True, cwd=home,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"),
        )  # fmt: skip

    def __call__(
        self, call: str, *arguments: Any, token: str | None = TOKEN, cache: Path | None = None, offline: bool = False,
        endpoint: str | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        command = {
            "call": call, "arguments": [str(a) if isinstance(a, Path) else a for a in arguments], "options": options,
            "token": token, "cache": None if cache is None else str(cache), "offline": offline, "endpoint": endpoint,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the worker has ended: {self.log.read_text()[-2000:]}"
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"], answer["message"])
        return answer["result"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


@pytest.fixture(scope="session")
def hub(tiny_bert: Path, other_tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running double with two users, an organisation, and the tiny backbone published in it."""
    from hub_double import Hub, HubDouble

    store = Hub({TOKEN: "ann", OTHER_TOKEN: "bob"}, {"ann": ("acme",)}, forbidden=("acme/forbidden",))
    store.add(BASE, tiny_bert)
    store.add("acme/other-weights", other_tiny_bert)
    double = HubDouble(store)
    double.start()
    yield double
    double.stop()


@pytest.fixture(scope="session")
def worker(hub: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The process that pushes and pulls."""
    made = Worker(hub.address, tmp_path_factory.mktemp("hub_home"))
    yield made
    made.close()


@pytest.fixture
def push(worker: Worker) -> Callable[..., Any]:
    """Push a run on the tiny backbone, under the license and base that tests take unless they say otherwise."""

    def call(run: Path, repo: str, **options: Any) -> Any:
        given = {"license": "apache-2.0", "base_model_id": BASE, **options}
        return worker("push", run, repo, **given)

    return call


@pytest.fixture
def refused(worker: Worker) -> Callable[..., str]:
    """Return the one line with which a command is refused."""

    def call(*arguments: Any, kind: str = "InputError", **options: Any) -> str:
        with pytest.raises(Failed) as caught:
            worker(*arguments, **options)
        assert caught.value.kind == kind, caught.value
        assert len(caught.value.message.splitlines()) == 1, caught.value.message
        return caught.value.message

    return call


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """See that nothing in a folder changes."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.fixture
def kept() -> Callable[[Path], contextlib.AbstractContextManager[None]]:
    return unchanged
