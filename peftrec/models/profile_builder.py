"""Making what reads users' texts, for a recommender."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from peftrec.config import InputError
from peftrec.encoders import Backbone, TextEncoder
from peftrec.methods.structure import position_limit
from peftrec.models.profile import Profiles
from peftrec.models.profile_config import ProfileConfig
from peftrec.models.profile_text import ProfileTokens


def build_profiles(
    config: ProfileConfig,
    items: TextEncoder,
    spare: Backbone | None,
    item_texts: Sequence[str],
    event_words: Sequence[str] | None,
    dim: int,
) -> Profiles:
    """Make the reader of users' texts.

    Args:
        config: the `profile` section.
        items: text encoder of the items.
        spare: a backbone for users alone; None where they share that of the items.
        item_texts: one an item.
        event_words: by kind of event, or None.
        dim: width of user vectors.
    Raises:
        InputError: if texts are longer than the backbone's positions, or the method cannot act.
    """
    encoder = items
    if config.method is not None:
        assert spare is not None, "users with a method of their own need a backbone of their own"
        settings = dataclasses.replace(
            items.config, max_tokens=config.max_tokens, token_budget=max(items.config.token_budget, config.max_tokens)
        )
        if items.backbone.causal:  # a vector after every event: there is nothing to pool
            settings = dataclasses.replace(settings, pooling="last")
        try:
            encoder = TextEncoder(spare, settings, config.method)
        except InputError as error:
            message = str(error).replace("method.", "profile.method.").replace("encoder.max", "profile.max")
            raise InputError(message) from error
    limit = position_limit(items.backbone.model)
    room = None if limit is None else limit - encoder.method.num_virtual_tokens
    if room is not None and config.max_tokens > room:
        raise InputError(
            f"profile.max_tokens is {config.max_tokens}, but {items.backbone.base.name} has {room} positions for it"
        )
    if config.max_tokens > encoder.config.token_budget:
        raise InputError(
            f"profile.max_tokens is {config.max_tokens}, more than encoder.token_budget "
            f"({encoder.config.token_budget}); raise the budget"
        )
    tokens = ProfileTokens(
        items.backbone.tokenizer,
        config,
        item_texts,
        event_words,
        oldest_first=items.backbone.causal,
        prefix=items.prefix,
    )
    return Profiles(encoder, config, tokens, dim, own=config.method is not None)
