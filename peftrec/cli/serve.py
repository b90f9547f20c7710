"""`peftrec serve`: recommendations over HTTP."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from peftrec.cli.verb import add_verb, positive
from peftrec.config import InputError, RecipeError

_DESCRIPTION = """\
Serve a run folder over HTTP: events are stored and change the user's next list, new items can be recommended at once.
docs/serving.md describes the requests; GET /openapi.json in full. Needs pip install 'peftrec[serve]'.

Only this machine is answered unless --host says otherwise, which needs a token: in a file (--token-file) or in the
environment (PEFTREC_TOKEN), never on the command line, where other users of the machine could read it. SIGHUP or
POST /v1/reload loads the run folder again, and the files of rules and re-ranking, while requests are answered.

examples:
  peftrec serve runs/first
  peftrec serve runs/first --port 9000 --workers 2 --store /var/lib/peftrec/events.db
  peftrec serve runs/first --rules rules.yaml --audit-log suppressed.jsonl --reranking diverse.yaml
  peftrec serve runs/first --host 0.0.0.0 --token-file /etc/peftrec/token --rate 500
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "serve", _run, summary="recommend over HTTP", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=8000, help="port; 0 takes a free one (default: 8000)")
    parser.add_argument(
        "--workers", type=positive, default=1, help="processes, each with the run in memory (default: 1)"
    )
    parser.add_argument("--threads", type=positive, help="threads of torch a worker (default: by the catalogue's size)")
    parser.add_argument("--store", metavar="FILE", help="event store, SQLite (default: RUN.events.db beside the run)")
    parser.add_argument("--adopt-store", action="store_true", help="take over a store that another run has written")
    parser.add_argument("--rules", metavar="FILE", help="hard rules of what is shown, YAML (docs/rules.md)")
    parser.add_argument(
        "--audit-log", metavar="FILE", help="write down what rules hid (default: as the audit section of --rules says)"
    )
    parser.add_argument("--audit-users", action="store_true", help="name users there")
    parser.add_argument(
        "--reranking", metavar="FILE", help="steps that make lists, YAML (docs/reranking.md; default: the run's recipe)"
    )
    token = parser.add_mutually_exclusive_group()
    token.add_argument("--token-file", metavar="FILE", help="file with the token that callers must send")
    token.add_argument("--no-auth", action="store_true", help="listen beyond this machine without a token")
    parser.add_argument(
        "--rate", type=_rate, default=200.0, help="requests a second and client of each worker; 0: any (default: 200)"
    )
    parser.add_argument("--max-body", type=positive, default=1_000_000, help="bytes of a body (default: 1000000)")
    parser.add_argument("--log-users", action="store_true", help="write user ids into the log")


def _run(arguments: argparse.Namespace) -> None:
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise InputError(f"peftrec serve needs {name}: pip install 'peftrec[serve]'") from None
    from peftrec.serving.settings import ServiceSettings, is_loopback

    token = _token(arguments)
    if token is None and not is_loopback(arguments.host) and not arguments.no_auth:
        raise RecipeError(
            f"--host {arguments.host} lets other machines in, so callers must send a token: --token-file FILE or "
            f"PEFTREC_TOKEN; --no-auth if something before the service asks for one"
        )
    if arguments.rules is None and (arguments.audit_log is not None or arguments.audit_users):
        given = "--audit-users" if arguments.audit_log is None else "--audit-log"
        raise RecipeError(f"{given} is about what rules hide, and there are none; name their file with --rules")
    run = Path(arguments.folder)
    settings = ServiceSettings(
        run=run,
        store=Path(arguments.store or f"{str(run).rstrip('/')}.events.db"),
        token=token,
        rate=arguments.rate,
        max_body=arguments.max_body,
        log_users=arguments.log_users,
        threads=arguments.threads,
        rules=_path(arguments.rules),
        reranking=_path(arguments.reranking),
        audit_log=_path(arguments.audit_log),
        audit_users=arguments.audit_users,
        local_only=token is None and is_loopback(arguments.host),
    )
    from peftrec.serving.process import serve

    serve(
        settings,
        arguments.host,
        arguments.port,
        workers=arguments.workers,
        adopt=arguments.adopt_store,
        say=lambda address: print(f"serving {run} on {address}", file=sys.stderr, flush=True),
    )


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)


def _token(arguments: argparse.Namespace) -> str | None:
    from peftrec.serving.settings import checked_token, read_token

    if arguments.no_auth:
        return None
    if arguments.token_file is not None:
        return read_token(Path(arguments.token_file))
    given = os.environ.get("PEFTREC_TOKEN")
    return None if given is None else checked_token(given, "PEFTREC_TOKEN")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; one lies between 0 and 65535")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is no rate; requests a second, 0 or more")
    return rate
