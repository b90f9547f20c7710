"""How much each interaction counts as a target."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from peftrec.config import InputError
from peftrec.data.cleaning_step import Tables
from peftrec.data.report import CleaningRow
from peftrec.data.source import DataConfig


def weigh_targets(tables: Tables, config: DataConfig) -> tuple[Tables, tuple[CleaningRow, ...]]:
    """Gives interactions the column `target_weight`, where they count differently as targets.

    weight = (its kind's weight) * (1 + log2(its count)), each factor where the recipe asks for it; 0 for what weighs
    less than `min_target_weight` and so is context alone.

    Args:
        tables: cleaned.
        config: the recipe's `data` section.
    Returns:
        The tables, and a row that counts what is context alone.
    Raises:
        InputError: if nothing is left to be a target.
    """
    if not config.weighs_events:
        return tables, ()
    events = tables.interactions
    weight = pl.col("weight") if config.event_weights is not None else pl.lit(1.0)
    if config.weigh_counts:
        weight = weight * (1 + pl.col("count").log(2))
    least = config.min_target_weight or 0.0
    events = events.with_columns(pl.when(weight >= least).then(weight).otherwise(0.0).alias("target_weight"))
    num_targets = int((events["target_weight"] > 0).sum())
    if not num_targets:
        raise InputError(
            f"{tables.interactions_name}: none of {events.height:,} events weighs data.min_target_weight "
            f"({least:g}) or more, so that no event could be a target; lower it"
        )
    context = events.height - num_targets
    note = f"{context:,} events weigh below {least:g} and are context alone" if context else ""
    return replace(tables, interactions=events), (CleaningRow("weights", "targets", context, num_targets, note),)
