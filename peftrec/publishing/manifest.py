"""`peftrec.json`: what a run folder holds, with checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from peftrec.config import InputError
from peftrec.publishing.json_file import read_json
from peftrec.publishing.listed_file import check_listed_name, check_within

FORMAT_VERSION: Final = 2
MANIFEST: Final = "peftrec.json"
PRIVATE: Final = "private"
# Those of version 1 say less of themselves, and keep all that belongs to items in one file.
READABLE_VERSIONS: Final = (1, FORMAT_VERSION)
_SINCE_2 = ("recipe", "num_items")
_SEAL = "sha256"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is in the folder and what it was made with.

    Args:
        peftrec_version: of the library that wrote it.
        backbone: name, revision and fingerprint of the language model; None where there is none.
        text: pooling, prefix, `max_tokens` and template that the vectors were made with.
        recipe: resolved, as plain values; the same as in `recipe.yaml`. None in folders of format version 1.
        num_items: size of the catalogue; None in folders of format version 1.
        format_version: of the layout of the folder.
        files: sha256 and bytes of every file but this one and those in `private/`; of one that was being replaced when
            its writer was killed, `before` holds those of what it was, or None where it was not there.
    """

    peftrec_version: str
    backbone: dict[str, Any] | None
    text: dict[str, Any]
    files: dict[str, dict[str, Any]]
    recipe: dict[str, Any] | None = None
    num_items: int | None = None
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write `peftrec.json`."""
        (folder / MANIFEST).write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Return what `peftrec.json` holds."""
        content = dataclasses.asdict(self)
        told = {"format_version": content.pop("format_version"), "peftrec_version": content.pop("peftrec_version")}
        if self.format_version == 1:
            content = {name: value for name, value in content.items() if name not in _SINCE_2}
        # The files last, as there are many.
        content = told | {name: value for name, value in content.items() if name != "files"} | {"files": self.files}
        content = content if self.format_version == 1 else sealed(content)
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest holds with the digest of it, so that a changed byte is seen there too."""
    rest = {name: value for name, value in content.items() if name != _SEAL}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=True)
    return {**rest, _SEAL: hashlib.sha256(text.encode()).hexdigest()}


def file_table(folder: Path) -> dict[str, dict[str, Any]]:
    """Return sha256 and size of every file of the folder that may be published."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: {"sha256": sha256(path), "bytes": path.stat().st_size}
        for name, path in names.items()
        if name != MANIFEST and not name.startswith(f"{PRIVATE}/")
    }


def read_manifest(folder: Path) -> Manifest:
    """Read and check a run folder's manifest and every file it lists.

    Raises:
        InputError: if the folder is no run, has another format, or a file is missing, truncated or edited.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such run folder")
    if not path.is_file():
        raise InputError(f"{folder}: is not a run folder ({MANIFEST} is missing)")
    manifest = _parse(path)
    for name, entry in manifest.files.items():
        _check_file(folder, name, entry)
    return manifest


def _parse(path: Path) -> Manifest:
    """Read a manifest without looking at the files that it lists."""
    check_within(path.parent, path)
    content = read_json(path)
    version = check_format(path, content)
    try:
        if version > 1 and content != sealed(content):
            raise InputError(f"{path}: was edited or damaged (its {_SEAL} is not that of what it holds)")
        content.pop(_SEAL, None)
        manifest = Manifest(**content)
    except TypeError as error:
        raise InputError(f"{path}: is damaged ({error})") from None
    mappings = isinstance(manifest.files, dict) and isinstance(manifest.text, dict)
    if not mappings or not isinstance(manifest.backbone, dict | None):
        raise InputError(f"{path}: is damaged (files, text or backbone are no mapping)")
    if not isinstance(manifest.peftrec_version, str):
        raise InputError(f"{path}: is damaged (peftrec_version is no text)")
    whole = isinstance(manifest.recipe, dict) and type(manifest.num_items) is int
    if whole != (version > 1):
        raise InputError(f"{path}: is damaged (a folder of format version {version} has other entries)")
    return manifest


def check_format(path: Path, content: Any) -> int:
    """Return the format version of what a manifest holds.

    Raises:
        InputError: if it has none, or one that is not read here.
    """
    if not isinstance(content, dict) or "format_version" not in content:
        raise InputError(f"{path}: is damaged (it holds no format_version)")
    version = content["format_version"]
    if type(version) is not int or version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise InputError(
            f"{path}: has format version {version!r}, and this peftrec reads {readable}; a newer peftrec may read it"
        )
    return version


def require_listed(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """See that files about to be read are on the manifest's list, so that they have been compared.

    Raises:
        InputError: naming the first file that is not.
    """
    for name in names:
        if name not in manifest.files:
            raise InputError(f"{folder / name}: is not listed in {MANIFEST}, so it cannot be trusted")


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(folder: Path, name: str, entry: dict[str, Any]) -> None:
    path = folder / name
    if not _is_entry(entry) or not (entry.get("before") is None or _is_entry(entry["before"])):
        raise InputError(f"{folder / MANIFEST}: is damaged ({name!r} has no size and sha256)")
    check_listed_name(folder / MANIFEST, name)
    check_within(folder, path)
    if "before" in entry and _is_as_before(path, entry["before"]):
        return
    if not path.is_file():
        raise InputError(f"{path}: is missing from the run folder")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise InputError(f"{path}: has {size} bytes, expected {entry['bytes']}; it is truncated or was edited")
    if sha256(path) != entry["sha256"]:
        raise InputError(f"{path}: was edited or damaged (its sha256 is not the one in {MANIFEST})")


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)


def _is_as_before(path: Path, before: dict[str, Any] | None) -> bool:
    """Whether a file is still what it was before its writer was killed."""
    if before is None or not path.is_file():
        return before is None and not path.is_file()
    return path.stat().st_size == before.get("bytes") and sha256(path) == before.get("sha256")
