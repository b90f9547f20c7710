"""Names that a manifest may list: kinds of files that a run folder holds, none of them outside of it."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final

from peftrec.config import InputError

# Nothing that runs, nothing that is unpickled.
SUFFIXES: Final = (".safetensors", ".json", ".jsonl", ".yaml", ".md", ".html", ".svg", ".png")
# In characters, of the whole name.
_LONGEST: Final = 200


def check_listed_name(manifest: Path, name: str) -> None:
    """See that a name is that of a file inside the folder, of a kind that run folders hold.

    Args:
        manifest: that lists it, for messages.
        name: as listed, with `/` between folders.
    Raises:
        InputError: if it is not.
    """
    path = PurePosixPath(name)
    # A backslash or a drive means something on Windows alone, and there leads out of the folder.
    strange = (
        "\\" in name or re.match(r"^[A-Za-z]:", name) is not None or not name.isprintable() or len(name) > _LONGEST
    )
    if not name or path.is_absolute() or ".." in path.parts or strange or path.as_posix() != name:
        shown = repr(name if len(name) <= _LONGEST else name[:_LONGEST] + "...")
        raise InputError(f"{manifest}: {shown} lies outside the folder, or is no plain name of a file in it")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{manifest}: lists '{name}', which is no kind of file that a run folder holds ({', '.join(SUFFIXES)})"
        )


def check_within(folder: Path, path: Path) -> None:
    """See that a file is not a link to somewhere else.

    A snapshot of the Hub's cache links each file to the folder `blobs` of the same repository; those are let through.

    Raises:
        InputError: naming the file and where it leads.
    """
    root = folder.resolve()
    try:
        found = path.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be followed ({error})") from None
    if found.is_relative_to(root):
        return
    snapshots = next((place for place in root.parents if place.name == "snapshots"), None)
    # Elsewhere a folder `blobs` may be anyone's.
    in_cache = snapshots is not None and snapshots.parent.name.startswith("models--")
    if snapshots is not None and in_cache and found.parent == snapshots.parent / "blobs":
        return
    raise InputError(f"{path}: is a link that leaves the run folder (to {found}); a run folder holds its own files")
