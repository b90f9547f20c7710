"""What a recommender can be asked for, which its run decides."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from peftrec.publishing import Run


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a recommender can be asked for.

    Args:
        new_items: whether items can be added, and given other texts.
        words: whether the words that carry a score can be found.
        vectors: whether items have vectors, by which they are similar or not.
        times: whether it reads when events happened, and so has to be told.
        event_kinds: the kinds of events that it reads, of which the first is that of events without one; None: none.
    """

    new_items: bool
    words: bool
    vectors: bool
    times: bool
    event_kinds: tuple[str, ...] | None


def capabilities_of(run: Run, *, has_vectors: bool) -> Capabilities:
    """Return what a run can be asked for."""
    model = run.model
    reads_texts = model is not None and model.text_encoder is not None
    words = run.recipe.data.event_words
    reads_kinds = words is not None and any(one.profiles is not None for one in run.models)
    return Capabilities(
        new_items=reads_texts or (model is not None and model.item_encoder.attributes is not None),
        words=reads_texts and importlib.util.find_spec("captum") is not None,
        vectors=has_vectors,
        times=any(one.needs_times for one in run.models),
        event_kinds=tuple(words) if words is not None and reads_kinds else None,
    )
