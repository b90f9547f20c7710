"""What every form is that a run can be exported to."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from peftrec.config import InputError
from peftrec.publishing.run_folder import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportTarget:
    """What all targets share; the fields of a target are its options.

    Attributes:
        modules: of the extra `export` that it is written and read back with.
        packages: whose versions its report tells.
    """

    kind: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft", "safetensors")

    def check_installed(self) -> None:
        """See that what it needs is there, before anything is loaded.

        Raises:
            InputError: naming the extra.
        """
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError:
                raise InputError(f"--to {self.kind} needs {module}: pip install 'peftrec[export]'") from None

    def options(self) -> dict[str, Any]:
        """Return the options that `export.json` tells."""
        return dataclasses.asdict(self)

    def check(self, run: Run) -> None:
        """See that a run can be exported so.

        Raises:
            InputError: saying why it cannot, and what can be had instead.
        """
        raise NotImplementedError

    def write(self, run: Run, folder: Path) -> dict[str, Any]:
        """Write files, load them again by what others will load them with, and compare.

        Args:
            run: that `check` has let pass.
            folder: empty.
        Returns:
            What `export.json` tells beside target, run and versions; figures of the comparison stand under `check`.
        Raises:
            InputError: if what was written does not give what the run gives.
        """
        raise NotImplementedError

    def describe(self, report: Mapping[str, Any]) -> list[str]:
        """Return lines for people of what `export.json` holds."""
        raise NotImplementedError
