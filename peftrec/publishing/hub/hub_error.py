"""What goes wrong between here and the Hub, in words that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from peftrec.config import InputError
from peftrec.publishing.hub.hub_name import HubName

_AGAIN = "the same command can be run again"


@contextlib.contextmanager
def hub_errors(name: HubName, *, writing: bool) -> Iterator[None]:
    """Turn errors of the Hub's client into an `InputError` with one line.

    Args:
        name: of the repository that is talked about.
        writing: whether something was to be written there, rather than read.
    Raises:
        InputError: naming the repository and what would help.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        told = _told(error, name, writing=writing)
        if told is None:
            raise
        raise InputError(f"{name}: {told}") from error


def _told(error: BaseException, name: HubName, *, writing: bool) -> str | None:
    """Return what an error means, None where it is none of the Hub's or the network's."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked" + (
            "; unset it" if writing else ", and not all of it is in the cache; unset it, or download it before"
        )
    if isinstance(error, errors.GatedRepoError):
        return f"access to it must be asked for, on its page; {_login()}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no branch, tag or commit '{name.revision or 'main'}'"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the Hub has no such repository, or it is private and you may not read it; {_login()}"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"a file is missing there ({_first_line(error)})"
    if isinstance(error, errors.HfHubHTTPError):
        return _status(error.response.status_code, error.server_message or _first_line(error), writing=writing)
    if isinstance(error, ValueError) and "Invalid metadata in README.md" in str(error):
        return f"the Hub refuses the metadata of the card: {' '.join(str(error).splitlines())}"
    # What the client raises itself often stands on what has happened to it.
    if error.__cause__ is not None and (told := _told(error.__cause__, name, writing=writing)) is not None:
        return told
    if isinstance(error, errors.LocalEntryNotFoundError | errors.HTTPError | ConnectionError | TimeoutError):
        kept = "nothing has changed there unless all has" if writing else "nothing was written here"
        return f"the connection to the Hub failed ({_first_line(error)}); {kept}, and {_AGAIN}"
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return f"a file came incomplete ({_first_line(error)}); {_AGAIN}"
    return None


def _status(status: int, message: str, *, writing: bool) -> str:
    if status == 401:
        return f"the Hub does not know your token ({message}); {_login()}"
    if status == 403:
        return (
            f"you may not {'write' if writing else 'read'} there ({message}); choose a name under your own user or an "
            f"organisation of yours, and a token that may write"
        )
    if status in (409, 412):
        return f"it was changed by somebody else meanwhile, or the name is taken ({message}); look at it, then {_AGAIN}"
    if status == 429:
        return f"the Hub takes no more requests for now ({message}); wait, then {_AGAIN}"
    if status >= 500:
        kept = "nothing has changed there unless all has" if writing else "nothing was written here"
        return f"the Hub fails (HTTP {status}: {message}); {kept}, and {_AGAIN}"
    return f"the Hub refuses it (HTTP {status}: {message})"


def _login() -> str:
    from huggingface_hub import get_token

    if get_token() is None:
        return "no token was sent: log in with `hf auth login`, or set HF_TOKEN"
    return "the token that was sent is that of HF_TOKEN or of `hf auth login`"


def _first_line(error: BaseException) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
