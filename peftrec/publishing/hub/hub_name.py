"""`user/name[@revision]`: how a repository of the Hub is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from peftrec.config import RecipeError


@dataclasses.dataclass(frozen=True)
class HubName:
    """A repository and what of it is meant.

    Args:
        repo_id: `user/name`, or `organisation/name`.
        revision: branch, tag or commit; None for the main branch.
    """

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"


def parse_hub_name(text: str) -> HubName:
    """Read `user/name` or `user/name@revision`.

    Raises:
        RecipeError: if the Hub could have no repository of that name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repo_id, at, revision = text.partition("@")
    if repo_id.count("/") != 1:
        raise RecipeError(f"'{text}' names no repository of the Hub; write user/name or organisation/name")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise RecipeError(f"'{text}' names no repository of the Hub: {error}") from None
    if at and not revision.strip():
        raise RecipeError(f"'{text}' names no revision after the @; write a branch, tag or commit, or leave the @ out")
    return HubName(repo_id, revision or None)


def may_be_hub_name(text: str) -> bool:
    """Whether a text that names no folder here may name a repository."""
    if text.startswith((".", "~", "/")) or Path(text).exists():
        return False
    try:
        parse_hub_name(text)
    except RecipeError:
        return False
    return True
