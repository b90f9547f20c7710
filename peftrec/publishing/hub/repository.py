"""What stands at a name of the Hub, looked at before anything is loaded or sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from peftrec.config import InputError, RecipeError
from peftrec.publishing.hub.hub_name import HubName
from peftrec.publishing.manifest import MANIFEST

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# What the Hub's form makes, and what people put there before a model: all of it stays.
_NO_MODEL: Final = re.compile(
    r"\.gitattributes|\.gitignore|README\.md|(LICEN[CS]E|NOTICE|COPYING|USE_POLICY)(\.(md|txt))?"
)
# What git refuses in the name of a branch (git check-ref-format).
_NO_BRANCH: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[-./]|[./]$|\.lock(/|$)|^@$")


def require_token(name: HubName) -> None:
    """See that a token is there and that the Hub may be asked.

    Raises:
        InputError: if not.
    """
    from huggingface_hub import constants, get_token

    if constants.is_offline_mode():
        raise InputError(f"{name}: HF_HUB_OFFLINE is set, so nothing can be sent; unset it")
    if get_token() is None:
        raise InputError(f"{name}: there is no token; log in with `hf auth login`, or set HF_TOKEN")


def check_branch(name: HubName) -> None:
    """See that a branch can have this name.

    Raises:
        RecipeError: if git has no such names.
    """
    if name.revision is not None and (not name.revision or _NO_BRANCH.search(name.revision)):
        raise RecipeError(
            f"--revision: '{name.revision}' is no name of a branch; write one such as v2 or candidates/may"
        )


def look(api: HfApi, name: HubName, *, private: bool) -> None:
    """See that a run may be pushed to a repository, as far as it can be known before.

    Raises:
        InputError: if the name is under somebody else, or there is a repository that is public where it must not be, or
            holds another model. Errors of the Hub are raised as they come.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    who = api.whoami()
    owners = {str(who["name"]), *(str(one["name"]) for one in who.get("orgs", []))}
    owner = name.repo_id.partition("/")[0]
    # A fine-grained token may be allowed to write where its list of organisations says nothing of it.
    is_fine = who.get("auth", {}).get("accessToken", {}).get("role") == "fineGrained"
    if not is_fine and owner.casefold() not in {one.casefold() for one in owners}:
        raise InputError(
            f"{name}: you may not write there (you are {who['name']}); choose a name under your own user or an "
            f"organisation of yours: {', '.join(sorted(owners))}"
        )
    try:
        info = api.model_info(name.repo_id)
    except RepositoryNotFoundError:
        return
    require_private(info.private, name, private=private)
    require_ours([one.rfilename for one in info.siblings or []], name)


def require_private(is_private: bool | None, name: HubName, *, private: bool) -> None:
    """Refuse a public repository where a private one is wanted."""
    if private and not is_private:
        raise InputError(f"{name}: is there already and public; make it private on its page, or leave --private out")


def require_ours(paths: list[str], name: HubName) -> None:
    """Refuse a repository that holds another model than a run of peftrec."""
    others = [path for path in paths if not _NO_MODEL.fullmatch(path)]
    if MANIFEST not in paths and others:
        raise InputError(
            f"{name}: holds something else than a run of peftrec ({others[0]}, ...); choose another name, nothing was "
            f"sent"
        )
