"""What no recipe knows of a run that is published: its licence, languages, data sets and name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from peftrec.config import InputError

_LICENSE = r"[a-z0-9][a-z0-9.+-]*"
_LANGUAGE = r"[a-z]{2,3}|multilingual|code"
_DATASET = r"(?:[\w-]+\/)?[\w.-]+"


@dataclass(frozen=True, kw_only=True)
class About:
    """What the publisher says of a run; everything has an empty default, and is checked as the Hub does.

    Args:
        license: identifier of the Hub's, such as `apache-2.0`, or `other`; None states none.
        license_name: of a licence that is `other`.
        license_link: where that one can be read.
        language: ISO 639-1 or 639-3 codes of the item texts, `multilingual`, or `code`.
        datasets: ids of the Hub's data sets that the run was trained on, or names without spaces; none takes those that
            the recipe tells.
        name: title of the card and of the results in its metadata; None takes the repository's or the folder's.
        base_model: Hub id of the backbone, for a run that was trained on a local copy of it.
    Raises:
        InputError: if a value is not what the Hub takes.
    """

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    name: str | None = None
    base_model: str | None = None

    def __post_init__(self) -> None:
        if self.license is not None and re.fullmatch(_LICENSE, self.license) is None:
            raise InputError(
                f"license: {self.license!r} is no identifier of the Hub's, such as apache-2.0, mit or cc-by-nc-4.0; a "
                f"licence that has none is 'other', with a license_name"
            )
        if self.license == "other" and not (self.license_name or "").strip():
            raise InputError("license: other needs a license_name, and where it can be read a license_link")
        if self.license != "other" and (self.license_name is not None or self.license_link is not None):
            raise InputError(f"license_name, license_link: go with license 'other', not with {self.license!r}")
        for code in self.language:
            if re.fullmatch(_LANGUAGE, code) is None:
                raise InputError(f"language: {code!r} is no code such as en, de or multilingual, which the Hub takes")
        for name in self.datasets:
            if re.fullmatch(_DATASET, name) is None:
                raise InputError(
                    f"datasets: {name!r} is neither a Hub id such as org/name nor a name of letters, digits, '-', '_' "
                    f"and '.'"
                )
        if self.name is not None and not self.name.strip():
            raise InputError("name: is empty; it is the title of the card, or is left out")
        if self.base_model is not None and not is_hub_id(self.base_model):
            raise InputError(f"base_model: {self.base_model!r} is no Hub id, which looks like org/name")


def is_hub_id(text: str) -> bool:
    """Whether a text may be the id of a repository on the Hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return True


def slug(text: str) -> str:
    """Return a text as a name that the Hub's metadata take."""
    return re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-.").lower() or "unknown"
