"""What a card says of what was trained: parts, settings, sizes, time and machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftrec.config import section_to_dict
from peftrec.publishing.card.documentation import sentence
from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.markdown import code, plain, settings, table

_FUSED = {"score": "standardised scores", "rank": "reciprocal ranks"}


def summary(facts: Facts) -> str:
    """Return the first paragraph: what this is."""
    items = f"{facts.num_items:,} items"
    if facts.kind == "ensemble":
        ensemble = facts.metrics["ensemble"]
        listed = ", ".join(f"{code(name)} ({weight:g})" for name, weight in ensemble["weights"].items())
        return (
            f"An ensemble over {items}, made by peftrec: the weighted mean of the {_FUSED[ensemble['by']]} of its "
            f"members, which lie in {code('members/')}, each a run of its own with its own card: {listed}. Nothing was "
            f"trained to put them together{_chosen(ensemble)}."
        )
    if facts.kind == "baseline":
        assert facts.recipe.baseline is not None
        reads = f" It reads item texts through {_backbone(facts)}, untrained." if facts.reads_backbone else ""
        return f"A baseline, {code(facts.recipe.baseline.kind)}, over {items}, fitted by peftrec.{reads}"
    what = f"A recommender over {items}, trained by peftrec: it takes the history of a user and ranks the items."
    if facts.kind == "ids":
        return f"{what} It knows items by their ids only, and reads no text."
    quantized = "" if facts.recipe.encoder.quantization == "none" else f" in {code(facts.recipe.encoder.quantization)}"
    method = f"{code(facts.recipe.method.kind)}{_share(facts)}"
    text = f"{what} Item texts are read by {_backbone(facts)}{quantized} with {method}"
    if facts.recipe.profile is None:
        return f"{text}."
    users = facts.recipe.profile.method
    told = "the same adapter" if users is None else f"{code(users.kind)} of their own"
    return f"{text}; texts of users by the same backbone with {told}."


def _chosen(ensemble: Mapping[str, Any]) -> str:
    chosen = ensemble.get("chosen_on")
    return f"; the weights were chosen by {code(chosen['metric'])} on validation cases" if chosen else ""


def _backbone(facts: Facts) -> str:
    if facts.base_model is not None:
        return f"[{plain(facts.base_model)}](https://huggingface.co/{facts.base_model})"
    return f"{plain(facts.backbone)} (a local folder, not on the Hub)"


def _share(facts: Facts) -> str:
    """Say how much of the language model was trained."""
    row = next((row for row in facts.metrics.get("parameters", []) if row["part"] == "lm"), None)
    if row is None or not row["total"]:
        return ""
    if not row["trainable"]:
        return ", of which nothing is trained"
    share = row["trainable"] / row["total"]
    return f", which trains {row['trainable']:,} of its {row['total']:,} parameters ({share:.2%})"


def trained_section(facts: Facts) -> str:
    """Return the section on what was trained, with all settings that shape it; of an ensemble its members say it."""
    if facts.kind == "ensemble":
        return ""
    recipe = facts.recipe
    rows: list[tuple[str, str, str]] = []
    if facts.reads_backbone:
        rows.append(("backbone", _named(facts), _revision(facts)))
    if recipe.baseline is not None:
        rows.append(_row("baseline", recipe.baseline))
    else:
        if facts.kind == "text":
            rows += [_row("method", recipe.method)]
        if recipe.profile is not None and recipe.profile.method is not None and facts.kind == "text":
            rows += [_row("method for users", recipe.profile.method)]
        rows += [_row("user encoder", recipe.user), _row("scorer", recipe.scorer), _row("loss", recipe.loss)]
        rows.append(("items known by", code(recipe.encoder.inputs), _inputs(facts)))
    names = ("part", "kind and settings", "what it does")
    return "\n\n".join(["## What was trained", table(names, rows)])


def _named(facts: Facts) -> str:
    encoder = facts.recipe.encoder
    kind = "" if encoder.quantization == "none" else f", {code(encoder.quantization)}"
    return f"{_backbone(facts)}{kind}"


def _revision(facts: Facts) -> str:
    if facts.base_model is None:
        return "its weights are told apart by the fingerprint in " + code("peftrec.json")
    link = "its own licence stands on its page"
    if facts.revision is not None:
        return f"revision {code(facts.revision)}; {link}"
    return f"no revision is pinned, but weights with another fingerprint are refused; {link}"


def _row(part: str, section: Any) -> tuple[str, str, str]:
    rest = {key: value for key, value in section_to_dict(section).items() if key != "kind"}
    shaped = f" {settings(rest)}" if rest else ""
    return part, f"{code(section.kind)}{shaped}", plain(sentence(section))


def _inputs(facts: Facts) -> str:
    encoder, data = facts.recipe.encoder, facts.recipe.data
    told = []
    if encoder.uses_text:
        pooling = (facts.text or {}).get("pooling", encoder.pooling)
        told.append(f"at most {encoder.max_tokens} tokens, pooling {code(pooling)}")
    if encoder.uses_ids:
        told.append("an id vector for items with training events" if encoder.uses_text else "an id vector each")
    if data.item_attributes is not None:
        told.append(f"attributes {', '.join(code(name) for name in data.item_attributes)}")
    return "; ".join(told)


def size_section(facts: Facts) -> str:
    """Return the section on parameters and bytes; empty where a run has no parameters of its own."""
    rows = facts.metrics.get("parameters") or []
    if not rows:
        return ""
    cells = [
        (plain(row["part"]), f"{row['trainable']:,}", f"{row['total']:,}", f"{row['stored']:,}",
         f"{row['stored_bytes']:,}", plain(row["dtype"] or "-"))
        for row in rows
    ]  # fmt: skip
    total = sum(row["stored_bytes"] for row in rows)
    notes = [f"What was trained takes {total:,} bytes in all, beside the backbone and the table of items."]
    names = {row["part"] for row in rows}
    if names & {"lm", "user_lm"}:
        notes.append(f"{code('lm')} is the language model with its adapter: the total counts the frozen weights too.")
    if "ids" in names:
        notes.append(f"{code('ids')} grow with the catalogue.")
    names_of = ("part", "trainable", "total", "stored", "bytes", "dtype")
    return "\n\n".join(["## Size", " ".join(notes), table(names_of, cells, numbers=range(1, 5))])


def training_section(facts: Facts) -> str:
    """Return the section on time, memory and machine."""
    training = facts.metrics.get("training") or {}
    if not training:
        return ""
    verb = {"baseline": "Fitted", "ensemble": "Members were trained"}.get(facts.kind, "Trained")
    line = f"{verb} in {_seconds(training['train_seconds'])}"
    if training.get("num_steps") is not None:
        line += f", {training['num_steps']:,} steps"
    if training.get("best_epoch") is not None:
        line += (
            f"; the weights are those of epoch {training['best_epoch']} of {len(training['epochs'])}, the best by "
            f"validation {code(facts.recipe.training.metric)}"
        )
    if training.get("processes", 1) > 1:
        line += f"; {training['processes']} processes"
    if training.get("peak_memory_mib") is not None:
        line += f"; peak memory {training['peak_memory_mib']:,.0f} MiB"
    lines = [f"- {line}."]
    if facts.kind in ("text", "ids"):
        lines.append(f"- Seed {facts.recipe.training.seed}. One run: other seeds give somewhat other figures.")
        optimizer = section_to_dict(facts.recipe.optimizer)
        lines.append(f"- {facts.recipe.training.batch_users} users a step; {settings(optimizer)}.")
    lines += [f"- {told}" for told in _machine(facts.environment or {})]
    return "\n\n".join(["## Training", "\n".join(lines)])


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds:,.0f} s ({seconds / 3600:.1f} h)"


def _machine(environment: Mapping[str, Any]) -> list[str]:
    machine = environment.get("machine")
    if not machine:
        return []
    gpus = ", ".join(machine.get("gpus") or []) or "no GPU"
    cores = f"{machine['cores']} cores, {machine['threads']} threads"
    told = f"{machine['system']}, {machine['processor']}, {cores}, {gpus}"
    versions = ", ".join(f"{name} {version}" for name, version in (environment.get("packages") or {}).items())
    return [
        f"Machine: {plain(told)}.",
        f"Versions: peftrec {plain(str(environment.get('peftrec')))}, Python {plain(str(environment.get('python')))}, "
        f"{plain(versions)}.",
    ]
