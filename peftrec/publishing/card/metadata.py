"""The metadata on top of a card, as the Hub reads them."""

from __future__ import annotations

import math
from typing import Any

from peftrec.config import InputError
from peftrec.publishing.card.about import slug
from peftrec.publishing.card.data import set_name
from peftrec.publishing.card.fact import Facts

# Backbones and adapters turn texts into vectors, which is what plain `peft` and pipelines of `transformers` get of a
# run; the Hub has no task for recommending. `sentence-similarity` would promise that vectors of texts are compared with
# each other, where training compares them with those of users.
_TASK = "feature-extraction"
_NO_PEFT = ("full", "frozen")


def metadata(facts: Facts) -> str:
    """Return the block of YAML, without the lines around it."""
    from huggingface_hub import ModelCardData

    about = facts.about
    results = _results(facts)
    data: Any = ModelCardData(
        library_name="peftrec",
        license=about.license,
        license_name=about.license_name,
        license_link=about.license_link,
        language=list(about.language) or None,
        base_model=facts.base_model if facts.kind == "text" else None,
        tags=_tags(facts),
        pipeline_tag=_TASK if facts.kind == "text" else None,
        datasets=_datasets(facts) or None,
        metrics=facts.keys or None,
        model_name=facts.title if results else None,
        eval_results=results or None,
        **_relation(facts),
    )
    return str(data.to_yaml())


def require_license(text: str) -> None:
    """See that a card states a licence, without which nobody may use what is published.

    Args:
        text: of the card, with its metadata.
    Raises:
        InputError: if it states none, or has no metadata that can be read.
    """
    from huggingface_hub import ModelCard

    try:
        found = ModelCard(text).data.license
    except Exception as error:
        raise InputError(f"README.md: its metadata cannot be read ({error}); write the card again") from error
    if not found:
        raise InputError(
            "README.md: states no licence, so that nobody could use what is published; give one, such as --license "
            "apache-2.0 (licences of the backbone and of the data may forbid some)"
        )


def _relation(facts: Facts) -> dict[str, str]:
    """Say how the run relates to its base model, where it has one on the Hub."""
    if facts.kind != "text" or facts.base_model is None:
        return {}
    # Full fine-tuning stores whole weights, which stand alone.
    return {"base_model_relation": "finetune" if facts.recipe.method.kind == "full" else "adapter"}


def _tags(facts: Facts) -> list[str]:
    tags = ["recommendation"]
    if facts.kind == "text":
        method = facts.recipe.method.kind
        tags += [method] if method in _NO_PEFT else ["peft", *([] if method == "peft" else [method])]
        tags += [] if facts.recipe.encoder.quantization == "none" else [facts.recipe.encoder.quantization]
    elif facts.kind == "baseline":
        assert facts.recipe.baseline is not None
        tags += ["baseline", facts.recipe.baseline.kind]
    elif facts.kind == "ensemble":
        tags += ["ensemble"]
    return tags


def _datasets(facts: Facts) -> list[str]:
    if facts.about.datasets:
        return list(facts.about.datasets)
    data = facts.recipe.data
    # A name that peftrec knows says more to others than that of a folder.
    return list(data.hub_ids) or ([slug(set_name(data))] if data.known_as else [])


def _results(facts: Facts) -> list[Any]:
    """Return the model's test metrics, with their intervals and the protocol."""
    from huggingface_hub import EvalResult

    if not facts.keys:
        return []
    row = facts.models["model"]
    data = facts.recipe.data
    names = [*facts.about.datasets, *data.hub_ids]
    name = names[0] if names else set_name(data)
    about_cases = {"split_kind": data.split.kind, "num_cases": row["num_cases"], "num_users": row["num_users"]}
    args = {**row["protocol"], **about_cases, "repeat_target_share": row["repeat_target_share"]}
    if "data_sha256" in facts.metrics:
        args["data_sha256"] = facts.metrics["data_sha256"]
    found = []
    for key in facts.keys:
        value = row["metrics"][key]
        if value is None or math.isnan(value):
            continue
        interval = {
            "interval": list(row["intervals"][key]),
            "interval_level": row["interval_level"],
            "interval_method": "percentile bootstrap over users",
        }
        found.append(
            EvalResult(
                task_type="recommendation",
                task_name="Next items of a user, the whole catalogue ranked",
                dataset_type=names[0] if names else slug(name),
                dataset_name=name,
                dataset_split="test",
                dataset_args=args,
                metric_type=key,
                metric_name=_label(key),
                metric_value=value,
                metric_args=interval,
            )
        )
    return found


def _label(key: str) -> str:
    return key.upper() if len(key.partition("@")[0]) <= 4 else key.capitalize()
