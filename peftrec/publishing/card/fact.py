"""What a card is made from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from peftrec.config import InputError
from peftrec.metrics import rank_keys
from peftrec.publishing.card.about import About, is_hub_id
from peftrec.publishing.card.place import shown_name
from peftrec.publishing.manifest import MANIFEST
from peftrec.recipe import Recipe

Kind = Literal["ensemble", "baseline", "ids", "text"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a card tells of a run comes from here.

    Args:
        recipe: resolved; of an ensemble that of one member, of which data and rules of evaluation alone are told.
        metrics: what `metrics.json` holds.
        num_items: size of the catalogue.
        about: what the publisher says.
        repo_id: of the Hub; None for a folder of this machine.
        others: `metrics.json` of other runs to stand beside, by what they are called.
        adapter: content of `adapter_config.json`; None where the run has no adapter.
        text: how texts become vectors, as `peftrec.json` has it; None where that is not written yet.
        environment: what the run was made with, as `environment.json` has it.
        local: whether the backbone was a folder when the run was written, wherever this is.
    """

    recipe: Recipe
    metrics: Mapping[str, Any]
    num_items: int
    about: About = dataclasses.field(default_factory=About)
    repo_id: str | None = None
    others: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    adapter: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    local: bool = False

    def __post_init__(self) -> None:
        if self.repo_id is not None and not is_hub_id(self.repo_id):
            raise InputError(f"{self.repo_id!r} is no id of a repository on the Hub, which looks like user/name")
        for name, other in self.others.items():
            self._check_other(name, other)

    def _check_other(self, name: str, other: Mapping[str, Any]) -> None:
        """See that another run's results may stand in the same table."""
        own = self.models.get("model")
        if own is None:
            raise InputError(f"the run itself has no test results that {name!r} could stand beside")
        if name in self.models:
            raise InputError(f"{name!r}: is what a row of the run itself is called; give the other run another name")
        row = other.get("test", {}).get("model")
        if not isinstance(row, Mapping) or not {"metrics", "intervals", "protocol"} <= row.keys():
            raise InputError(f"{name!r}: holds no test results as metrics.json does")
        if other.get("data_sha256") != self.metrics.get("data_sha256") or row["protocol"] != own["protocol"]:
            raise InputError(
                f"{name!r}: was measured on other data or by another protocol than the run itself, so that the two "
                f"may not stand in one table"
            )

    @property
    def kind(self) -> Kind:
        """What sort of run it is; only of `text` the recipe's method was trained."""
        if "ensemble" in self.metrics:
            return "ensemble"
        if self.recipe.baseline is not None:
            return "baseline"
        return "text" if self.recipe.encoder.uses_text else "ids"

    @property
    def title(self) -> str:
        """What the card is called."""
        own = self.repo_id.rpartition("/")[2] if self.repo_id is not None else shown_name(self.recipe.output_dir)
        return self.about.name or own or "A peftrec run"

    @property
    def base_model(self) -> str | None:
        """Hub id of the backbone; None where it is a folder of some machine, or the run has none."""
        name = self.recipe.encoder.backbone
        if self.kind in ("ensemble", "ids") or not self.reads_backbone:
            return None
        if self.about.base_model is not None:
            return self.about.base_model
        local = self.local or not is_hub_id(name) or Path(name).expanduser().is_dir()
        return None if local else name

    @property
    def reads_backbone(self) -> bool:
        """Whether item texts went through a language model."""
        baseline = self.recipe.baseline
        return self.kind == "text" or (self.kind == "baseline" and baseline is not None and baseline.needs_item_vectors)

    @property
    def backbone(self) -> str:
        """What the backbone is called; of a local folder its last part."""
        return self.base_model or shown_name(self.recipe.encoder.backbone) or "a local folder"

    @property
    def revision(self) -> str | None:
        """Commit or tag of the backbone, as far as it is known."""
        found = None if self.adapter is None else self.adapter.get("revision")
        return found or self.recipe.encoder.revision

    @property
    def test(self) -> Mapping[str, Any]:
        """Results on the test split; empty where there are none."""
        found = self.metrics.get("test", {})
        return found if isinstance(found, Mapping) else {}

    @property
    def models(self) -> dict[str, Mapping[str, Any]]:
        """Test results by what they are of: `model` first, then members and references."""
        return {name: row for name, row in self.test.items() if isinstance(row, Mapping) and "metrics" in row}

    @property
    def keys(self) -> list[str]:
        """Metrics of ranks that were measured."""
        return rank_keys(self.models["model"]["metrics"]) if "model" in self.models else []


def read_facts(folder: Path, facts: Facts) -> Facts:
    """Add to facts what the files of a run folder tell beside, as far as they are there.

    Raises:
        InputError: if one of them is damaged.
    """
    manifest = _read(folder / MANIFEST) or {}
    return dataclasses.replace(
        facts,
        adapter=facts.adapter or _read(folder / "adapter_config.json"),
        text=facts.text or manifest.get("text"),
        environment=facts.environment or _read(folder / "environment.json"),
        local=facts.local or bool((manifest.get("backbone") or {}).get("local")),
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error})") from None
