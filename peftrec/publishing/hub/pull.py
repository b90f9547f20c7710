"""`pull_run("user/name", folder)` and what `from_pretrained` reads: runs that come from the Hub."""

from __future__ import annotations

import glob
import shutil
import tempfile
from pathlib import Path

from peftrec.config import InputError, RecipeError
from peftrec.publishing.hub.hub_error import hub_errors
from peftrec.publishing.hub.hub_name import HubName, may_be_hub_name, parse_hub_name
from peftrec.publishing.hub.publishable import may_be_fetched
from peftrec.publishing.json_file import read_json
from peftrec.publishing.manifest import MANIFEST, check_format, read_manifest


def run_folder_of(given: str | Path) -> Path:
    """Return the folder of a run: a folder that is there, else a repository of the Hub, fetched into its cache.

    Args:
        given: a folder, or `user/name[@revision]`.
    Raises:
        InputError: if it is neither, or the Hub cannot be asked and the cache does not have it.
    """
    if isinstance(given, Path) or not may_be_hub_name(given):
        return Path(given)
    try:
        return fetch(parse_hub_name(given))
    except InputError as error:
        raise InputError(f"there is no such run folder here, and on the Hub: {error}") from error


def fetch(name: HubName) -> Path:
    """Fetch the files of a published run into the Hub's cache, and return the folder there.

    Those that its manifest lists are fetched, and no others; what is in the cache is not fetched again.

    Raises:
        InputError: if there is no such repository, it is no run of peftrec, or the Hub cannot be reached.
    """
    from huggingface_hub import errors, hf_hub_download, snapshot_download

    with hub_errors(name, writing=False):
        try:
            manifest = Path(hf_hub_download(name.repo_id, MANIFEST, revision=name.revision))
        except errors.RemoteEntryNotFoundError:
            raise InputError(f"{name}: is no run of peftrec ({MANIFEST} is missing there)") from None
        sizes = _fetched(manifest, name)
        names = list(sizes)
        patterns = [glob.escape(path) for path in (MANIFEST, *names)]
        # The commit, so that all files are of one state although somebody may push meanwhile.
        commit = manifest.parent.name
        _check_sizes(name, commit, sizes)
        folder = Path(snapshot_download(name.repo_id, revision=commit, allow_patterns=patterns))
        # Where the Hub does not say what there is, the client hands out what it has, which may be a part.
        for path in names:
            if not (folder / path).is_file():
                hf_hub_download(name.repo_id, path, revision=commit)
        return folder


def pull_run(repo: str, folder: str | Path) -> Path:
    """Write a published run into a folder of its own, whole or not at all.

    Args:
        repo: `user/name`, or `user/name@revision`.
        folder: where to write; must not be there, or be empty.
    Returns:
        The folder.
    Raises:
        RecipeError: if the name is wrong, or the folder is taken.
        InputError: as in `fetch`, or if a file is not what the manifest says.
    """
    name, folder = parse_hub_name(repo), Path(folder)
    if folder.name in ("", ".."):
        raise RecipeError(f"'{folder}' is no folder of its own; give it a name, such as pulled/first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder}: is there already; choose another")
    cached = fetch(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        work = Path(aside) / folder.name
        for path in (MANIFEST, *_fetched(cached / MANIFEST, name)):
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cached / path, work / path)
        try:
            read_manifest(work)
        except InputError as error:
            told = str(error).replace(f"{work}/", "")
            raise InputError(
                f"{name}: {told}; nothing was written here (if it is whole on the Hub, remove "
                f"{cached.parent.parent} and pull again)"
            ) from None
        work.replace(folder)
    return folder


def _check_sizes(name: HubName, commit: str, sizes: dict[str, int]) -> None:
    """See that what is not in the cache yet is as large on the Hub as the manifest says, before it is fetched.

    Raises:
        InputError: naming the file, so that nobody fetches more by accident than the run consists of.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    missing = [
        path for path in sizes if not isinstance(try_to_load_from_cache(name.repo_id, path, revision=commit), str)
    ]
    if not missing or constants.is_offline_mode():
        return
    there = _sizes_there(name, commit, missing)
    for path in missing:
        if path in there and there[path] != sizes[path]:
            raise InputError(
                f"{name}: {path} has {there[path]:,} bytes there, where {MANIFEST} says {sizes[path]:,}; it was edited "
                f"or damaged there, and nothing was fetched"
            )


def _sizes_there(name: HubName, commit: str, paths: list[str]) -> dict[str, int | None]:
    """Return the bytes of files on the Hub: from its list, or one by one where it does not list them."""
    from huggingface_hub import HfApi, RepoFile, errors, get_hf_file_metadata, hf_hub_url

    api = HfApi(library_name="peftrec")
    try:
        rows = list(api.list_repo_tree(name.repo_id, revision=commit, recursive=True))
    except errors.HfHubHTTPError:
        return {path: get_hf_file_metadata(hf_hub_url(name.repo_id, path, revision=commit)).size for path in paths}
    return {row.path: row.size for row in rows if isinstance(row, RepoFile)}


def _fetched(manifest: Path, name: HubName) -> dict[str, int]:
    """Return the bytes of the files that a manifest lists, all of kinds that runs consist of."""
    try:
        content = read_json(manifest)
        # Another format may have other files.
        check_format(manifest, content)
        listed = {str(path): entry for path, entry in content["files"].items()}
    except (InputError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: {MANIFEST} is damaged there ({error})") from None
    refused = next((path for path in listed if not may_be_fetched(path)), None)
    if refused is not None:
        raise InputError(f"{name}: {MANIFEST} lists '{refused}', which is no file of a run; nothing was fetched")
    try:
        return {path: int(entry["bytes"]) for path, entry in listed.items()}
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{name}: {MANIFEST} is damaged there (a file has no number of bytes)") from None
