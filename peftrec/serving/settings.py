"""What the service is started with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peftrec.config import InputError

_SHORTEST_TOKEN: Final = 16


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What the service is started with.

    Args:
        run: run folder; loaded again from the same place on a reload.
        store: file of the event store.
        token: what callers must send; None lets everybody in who reaches the service.
        rate: requests a second and client, in the long run, of each worker; 0 sets no limit.
        max_body: bytes of a request's body.
        log_users: whether user ids may stand in logs.
        threads: of torch in a worker; None chooses by the size of the catalogue.
        poll_seconds: how often a worker looks for what others on the store have changed.
        local_only: answer only requests that name this machine (a page of another site cannot, whatever its name
            resolves to).
        rules: file of hard rules; None: there are none. Read again on a reload, as re-ranking is.
        reranking: file of steps of re-ranking; None: as the run's recipe says.
        audit_log: where it is written down what rules hid; None: as the file of rules says.
        audit_users: whether that names users, whatever the file of rules says.
        metrics_folder: where several workers put their counts together; None for one.
    """

    run: Path
    store: Path
    token: str | None = None
    rate: float = 200.0
    max_body: int = 1_000_000
    log_users: bool = False
    threads: int | None = None
    poll_seconds: float = 0.2
    local_only: bool = True
    rules: Path | None = None
    reranking: Path | None = None
    audit_log: Path | None = None
    audit_users: bool = False
    metrics_folder: Path | None = None

    @property
    def owner(self) -> str:
        """The name under which the store knows the run: where it lies, not what a link there leads to."""
        return str(self.run.absolute())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """Read a token from a file.

    Raises:
        InputError: if it cannot be read, or `checked_token` refuses what it holds.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the token cannot be read ({error})") from None
    return checked_token(text, str(path))


def checked_token(token: str, place: str) -> str:
    """Return a token that is hard to guess and fits into a header.

    Raises:
        InputError: naming the place (never the token).
    """
    if len(token) < _SHORTEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise InputError(
            f"{place}: a token has at least {_SHORTEST_TOKEN} letters, digits or signs and no spaces; make one with "
            f"python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token
