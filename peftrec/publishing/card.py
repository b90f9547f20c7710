"""`README.md` of a run folder: what it is, what was trained, what it reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftrec.config import dump_yaml
from peftrec.recipe import Recipe

CARD = "README.md"


def write_card(folder: Path, recipe: Recipe, metrics: Mapping[str, Any], num_items: int) -> None:
    """Write the card; its figures are those of `metrics.json`.

    Args:
        folder: the run folder.
        recipe: resolved.
        metrics: what `metrics.json` holds.
        num_items: size of the catalogue.
    """
    ensemble = metrics.get("ensemble")
    summary = _summary(recipe, num_items) if ensemble is None else _members(ensemble, num_items)
    parts = [_metadata(recipe, ensemble=ensemble is not None), f"# {Path(recipe.output_dir).name}", summary, _USE]
    if metrics.get("parameters"):
        parts += ["## Parameters", _parameters(metrics["parameters"])]
    if "test" in metrics:
        parts += ["## Results", _results(metrics["test"])]
    (folder / CARD).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


_USE = """\
```python
import peftrec

recommender = peftrec.Recommender.from_pretrained("this folder")
recommender.recommend(history=["an item's id"], k=10)
```"""


def _metadata(recipe: Recipe, *, ensemble: bool) -> str:
    values: dict[str, Any] = {"library_name": "peftrec", "tags": ["recommendation"]}
    if ensemble:
        values["tags"] += ["ensemble"]
    elif recipe.baseline is None and recipe.encoder.uses_text:
        values["tags"] += ["peft", recipe.method.kind]
        # A folder of this machine is no base model for anybody else.
        if not Path(recipe.encoder.backbone).is_dir():
            values |= {"base_model": recipe.encoder.backbone, "base_model_relation": "adapter"}
    return f"---\n{dump_yaml(values)}---"


def _members(ensemble: Mapping[str, Any], num_items: int) -> str:
    listed = ", ".join(f"{name} ({weight:g})" for name, weight in ensemble["weights"].items())
    by = {"score": "standardised scores", "rank": "reciprocal ranks"}[ensemble["by"]]
    return (
        f"An ensemble over {num_items:,} items, made by peftrec: the weighted mean of the {by} of its members, which "
        f"lie in `members/`, each a run of its own: {listed}."
    )


def _summary(recipe: Recipe, num_items: int) -> str:
    if recipe.baseline is not None:
        return f"A baseline, `{recipe.baseline.kind}`, over {num_items:,} items. The recipe is in `recipe.yaml`."
    what = f"A recommender over {num_items:,} items, made by peftrec from `recipe.yaml`."
    if not recipe.encoder.uses_text:
        return f"{what} It knows ids only."
    quantized = "" if recipe.encoder.quantization == "none" else f", stored as {recipe.encoder.quantization},"
    name = Path(recipe.encoder.backbone).name if Path(recipe.encoder.backbone).is_dir() else recipe.encoder.backbone
    text = f"{what} Items are read by {name}{quantized} with `{recipe.method.kind}`"
    if recipe.profile is None:
        return f"{text}."
    users = "the same adapter" if recipe.profile.method is None else f"`{recipe.profile.method.kind}` of their own"
    return f"{text}, users by {users}."


def _parameters(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| part | trainable | total | stored | bytes | dtype |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['part']} | {row['trainable']:,} | {row['total']:,} | {row['stored']:,} | {row['stored_bytes']:,} | "
        f"{row['dtype'] or '-'} |"
        for row in rows
    ]
    return "\n".join(lines)


def _results(test: Mapping[str, Any]) -> str:
    found = {name: entry for name, entry in test.items() if isinstance(entry, Mapping) and "metrics" in entry}
    keys = list(found["model"]["metrics"])
    protocol = found["model"]["protocol"]
    lines = [
        f"Test split, whole catalogue of {protocol['num_items']:,} items, history {protocol['history']}, a target in "
        f"it is {protocol['target_in_history']}, ties count against the model; 95 % intervals over users.",
        "",
        "| | " + " | ".join(keys) + " |",
        "|---|" + "---|" * len(keys),
    ]
    for name, entry in found.items():
        cells = [
            f"{entry['metrics'][key]:.4f} [{entry['intervals'][key][0]:.4f}, {entry['intervals'][key][1]:.4f}]"
            for key in keys
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if test.get("leaks"):
        lines += ["", str(test["leaks"])]
    return "\n".join(lines)
