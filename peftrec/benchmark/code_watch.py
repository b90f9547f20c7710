"""Results of one code: what begins, goes on and is taken up while a suite runs is of that which it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftrec.benchmark.code_version import CodeState, changed_files, code_of_commit, code_of_files, is_dirty
from peftrec.benchmark.record import Origin, stored_origin
from peftrec.config import InputError


class CodeWatch:
    """Looks at the code when a suite begins, and again with each run: a suite takes days, and somebody may work on it.

    Args:
        marks: folder where it notes which code each training began with.
        allow_mixed: whether other code may go on with a training, or have made a run folder that is taken up.
        files: the suite and its recipes, which decide what runs become as code does.
    """

    def __init__(self, marks: Path, *, allow_mixed: bool, files: Sequence[str] = ()) -> None:
        self._marks, self._allow_mixed, self._files = marks, allow_mixed, files
        self.at_start = self.now

    @property
    def now(self) -> CodeState:
        """Return the code as it is now."""
        return CodeState(code=code_of_files(), dirty=is_dirty() or bool(changed_files(self._files)))

    def difference(self) -> str | None:
        """Return what differs from its commit, which results are to name; None if nothing does."""
        if is_dirty():
            return "the code"
        changed = changed_files(self._files)
        return ", ".join(changed) if changed else None

    def check_unchanged(self) -> None:
        """Raise an `InputError` if the code is no longer that of the start, unless results may be mixed."""
        if not self._allow_mixed and self.now.code != self.at_start.code:
            raise InputError("the code has changed since the suite began; start it again, or pass --allow-mixed")

    def begin(self, name: str, *, stopped: Path | None) -> None:
        """Note which code a training begins with, or see that it goes on with that.

        Args:
            name: of the run.
            stopped: folder of the training that goes on; None for one that begins.
        Raises:
            InputError: if other code began it, unless results may be mixed.
        """
        begun = None if stopped is None else CodeState.read(self._mark(name))
        if begun is None or begun.code == self.now.code:
            self.now.write(self._mark(name))
        elif self._allow_mixed:
            CodeState(code=None, dirty=True).write(self._mark(name))
        else:
            raise InputError(
                f"{stopped}: the stopped training was begun by other code; check that out, remove the folder to begin "
                f"again, or pass --allow-mixed"
            )

    def origin(self, name: str, folder: Path) -> Origin:
        """Return what made a run folder; where no mark tells, its commit does.

        Args:
            name: of the run.
            folder: of the run.
        Raises:
            InputError: if it was not the code at hand alone, unless results may be mixed; or the folder is damaged.
        """
        commit, threads = stored_origin(folder)
        made = CodeState.read(self._mark(name))
        if made is None and commit is None:
            made = self.now
        elif made is None:
            changed = str(commit).endswith("+")
            made = CodeState(code=None if changed else code_of_commit(str(commit)), dirty=changed)
        if made.code != self.now.code and not self._allow_mixed:
            raise InputError(
                f"{folder}: was not made by the code at hand alone (commit {commit}); check that commit out, remove "
                f"the folder, or pass --allow-mixed"
            )
        return Origin(threads=threads, code=made.code, dirty=made.dirty)

    def cost_fault(self, environment: Mapping[str, Any]) -> str | None:
        """Return why costs that the code at hand takes may not be added to a result, unless results may be mixed.

        Args:
            environment: of the result.
        """
        if self._allow_mixed:
            return None
        if self.now.dirty:
            return "the code differs from its commit; commit it, or pass --allow-mixed, which the costs then tell"
        if environment.get("code") != self.now.code:
            return (
                f"its result is of other code (commit {environment['commit']}) than costs would be; check that commit "
                f"out, or pass --allow-mixed, which the report tells"
            )
        return None

    def _mark(self, name: str) -> Path:
        return self._marks / f"{name}.code.json"
