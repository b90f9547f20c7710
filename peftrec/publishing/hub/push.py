"""`push_run(run, "user/name")`: a run published on the Hub in one commit, or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftrec.config import InputError, RecipeError
from peftrec.publishing.card import About
from peftrec.publishing.hub.hub_error import hub_errors
from peftrec.publishing.hub.hub_name import HubName, parse_hub_name
from peftrec.publishing.hub.publishable import may_be_published
from peftrec.publishing.hub.repository import check_branch, look, require_ours, require_private, require_token
from peftrec.publishing.hub.staging import Staged, prove, stage
from peftrec.publishing.json_file import read_json
from peftrec.publishing.manifest import read_manifest, sha256
from peftrec.publishing.run_folder import METRICS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_LICENSE = (
    "a published model needs a license: name one with --license, such as apache-2.0, mit or cc-by-nc-4.0 (it may not "
    "allow more than the licenses of the backbone and of the data do)"
)


@dataclasses.dataclass(frozen=True)
class PushReport:
    """What was published, or would be.

    Args:
        repository: `user/name`, with `@branch` where it is not the main one.
        files: bytes by name, of all that the repository then holds of the run.
        replaced: folders of this machine that the recipe named, and what stands there instead.
        deleted: files of an earlier push that are no longer there.
        num_users: ids of users that were looked for in the texts; None where the run keeps no data of users to know
            them by, so that only columns of users were looked for.
        commit: sha; None where nothing was sent.
        changed: whether a commit was made; False where the very same was there already, or nothing was sent.
        url: of the repository; None where nothing was sent.
    """

    repository: str
    files: dict[str, int]
    replaced: dict[str, str]
    deleted: tuple[str, ...] = ()
    num_users: int | None = None
    commit: str | None = None
    changed: bool = False
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self) | {"deleted": list(self.deleted), "bytes": sum(self.files.values())}


def push_run(
    run: str | Path,
    repo_id: str,
    *,
    license: str | None,  # noqa: A002
    license_name: str | None = None,
    license_link: str | None = None,
    language: tuple[str, ...] = (),
    datasets: tuple[str, ...] = (),
    beside: Mapping[str, str | Path] | None = None,
    private: bool = False,
    with_vectors: bool = False,
    revision: str | None = None,
    base_model_id: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    report: Callable[[str], None] | None = None,
) -> PushReport:
    """Publish a run folder, which itself is only read.

    What may be published is copied aside, checked and loaded there; only then is anything sent to the Hub, and all
    files come in one commit. A repository that holds the very same gets no new commit, so the call can be made again.

    Args:
        run: the run folder.
        repo_id: `user/name` or `organisation/name`; made where it is not there.
        license: identifier of the Hub's, such as `apache-2.0`.
        license_name: and `license_link`, of a license that is `other`.
        language: codes of the items' languages.
        datasets: ids of the Hub's data sets that the run was trained on; none takes what the recipe tells.
        beside: run folders whose test results stand beside this one's in the card, such as full fine-tuning, by the
            name to show; they must have been measured on the same data by the same rules.
        private: make a private repository; refused where a public one is there.
        with_vectors: publish the stored vectors of the items too; else they are made anew when it is loaded.
        revision: branch to commit to, made where it is not there; None for the main one.
        base_model_id: the model of the Hub that a local backbone is.
        message: of the commit.
        dry_run: stage and search the files, and stop there; nobody is talked to and nothing is loaded.
        report: is handed one line at a time on what goes on; None is silent.
    Raises:
        RecipeError: if the name, the license or another argument is wrong.
        InputError: if what would be published must not be, or the Hub refuses it or cannot be reached.
    """
    say = report or (lambda _: None)
    run, name = Path(run), HubName(parse_hub_name(repo_id).repo_id, revision)
    if "@" in repo_id:
        raise RecipeError(f"'{repo_id}': where to push is a repository; name a branch with --revision")
    about = _about(license, license_name, license_link, language, datasets)
    check_branch(name)
    if not dry_run:
        require_token(name)
        # Before the backbone is loaded: that takes long, and its errors would not tell of the token or of the name.
        with hub_errors(name, writing=True):
            look(_api(), name, private=private)
    with tempfile.TemporaryDirectory(prefix="peftrec-push-") as aside:
        staged = stage(
            run,
            Path(aside),
            about,
            name.repo_id,
            others=_metrics_of(beside or {}),
            base_model_id=base_model_id,
            with_vectors=with_vectors,
            ask_hub=not dry_run,
        )
        if dry_run:
            return PushReport(str(name), staged.files, staged.replaced, num_users=staged.num_users)
        prove(staged, run)
        say(f"loaded and checked: {len(staged.files)} files, {sum(staged.files.values()):,} bytes")
        with hub_errors(name, writing=True):
            return _send(staged, name, private=private, message=message or f"Publish {run.resolve().name}", say=say)


def _about(
    license_id: str | None,
    license_name: str | None,
    license_link: str | None,
    language: tuple[str, ...],
    datasets: tuple[str, ...],
) -> About:
    """Return what the publisher says, or refuse it in words of the command."""
    if license_id is None or not license_id.strip():
        raise RecipeError(_LICENSE)
    try:
        return About(
            license=license_id,
            license_name=license_name,
            license_link=license_link,
            language=language,
            datasets=datasets,
        )
    except InputError as error:
        raise RecipeError(f"--{error}") from None


def _metrics_of(beside: Mapping[str, str | Path]) -> dict[str, Any]:
    """Return `metrics.json` of runs that are told of in the card, each from a folder that is whole."""
    found = {}
    for name, folder in beside.items():
        read_manifest(Path(folder))
        found[name] = read_json(Path(folder) / METRICS)
    return found


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="peftrec")


def _send(staged: Staged, name: HubName, *, private: bool, message: str, say: Callable[[str], None]) -> PushReport:
    """Commit what differs from what is there, and see that the Hub then lists what was sent."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _api()
    url = str(api.create_repo(name.repo_id, private=private or None, exist_ok=True))
    info = api.model_info(name.repo_id)
    require_private(info.private, name, private=private)
    if name.revision is not None and name.revision not in {
        ref.name for ref in api.list_repo_refs(name.repo_id).branches
    }:
        api.create_branch(name.repo_id, branch=name.revision, exist_ok=True)
    parent = api.model_info(name.repo_id, revision=name.revision).sha
    there = _listed(api, name.repo_id, parent)
    require_ours(list(there), name)
    changed = [path for path in staged.files if there.get(path) not in _identities(staged.folder / path)]
    gone = tuple(path for path in there if may_be_published(path) and path not in staged.files)
    result = PushReport(
        str(name), staged.files, staged.replaced, gone, staged.num_users, parent, changed=False, url=url
    )
    if not changed and not gone:
        say(f"{name} holds the very same already")
        return result
    operations = [CommitOperationAdd(path, str(staged.folder / path)) for path in changed]
    operations += [CommitOperationDelete(path) for path in gone]
    made = api.create_commit(
        name.repo_id, operations, commit_message=message, revision=name.revision, parent_commit=parent
    )
    _verify(staged, name, _listed(api, name.repo_id, made.oid))
    say(f"{name}: {len(changed)} files sent, {len(gone)} removed, and found there as sent")
    return dataclasses.replace(result, commit=made.oid, changed=True)


def _listed(api: HfApi, repo_id: str, revision: str) -> dict[str, str]:
    """Return what the Hub lists of a commit: of each file its sha256 where it is stored as large, else its git id."""
    from huggingface_hub import RepoFile

    rows = api.list_repo_tree(repo_id, revision=revision, recursive=True)
    return {row.path: row.blob_id if row.lfs is None else row.lfs.sha256 for row in rows if isinstance(row, RepoFile)}


def _identities(path: Path) -> tuple[str, str]:
    """Return both names that the Hub may give the content of a file."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return sha256(path), digest.hexdigest()


def _verify(staged: Staged, name: HubName, there: dict[str, str]) -> None:
    """See that a commit holds what was sent, and nothing else of a run."""
    wrong = [path for path in staged.files if there.get(path) not in _identities(staged.folder / path)]
    extra = [path for path in there if may_be_published(path) and path not in staged.files]
    if wrong or extra:
        raise InputError(f"{name}: the Hub does not list what was sent ({(wrong + extra)[0]}); push again")
