"""Revisions of backbones on the Hub: which commit was loaded, and one that the Hub does not have."""

from __future__ import annotations

from pathlib import Path

from peftrec.config import InputError


def commit_in_cache(name: str, revision: str | None) -> str | None:
    """Return the commit that was loaded from the Hub's cache: what lies under a branch may be another one tomorrow."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None


def check_revision(name: str, revision: str | None, error: BaseException) -> None:
    """Say so where loading has failed because the Hub has the model, but not in this revision.

    Raises:
        InputError: naming the key, then.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RevisionNotFoundError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        raise InputError(
            f"encoder.revision: the Hub's '{name}' has no revision '{revision}'; give one of its branches, tags or "
            f"commits, or null for its newest state"
        ) from error
