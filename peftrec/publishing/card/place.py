"""Names of folders that may be shown to others."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

_HOMES = ("home", "users")


def shown_name(path: str) -> str | None:
    """Return the last part of a path; None where it is somebody's home folder, or nothing is left.

    Args:
        path: of this machine or another.
    """
    kind = PureWindowsPath if "\\" in path else PurePosixPath
    parts = [part for part in kind(path).parts if part not in (".", "..", "~", "/")]
    if not parts or parts[-1] == kind(path).anchor:
        return None
    is_home = len(parts) > 1 and parts[-2].strip("\\/").lower() in _HOMES
    return None if is_home or parts[-1] == Path.home().name or parts[-1].startswith("~") else parts[-1]
