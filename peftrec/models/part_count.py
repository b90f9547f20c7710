"""Parameters and bytes of a recommender, by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from peftrec.encoders import TextEncoder
from peftrec.methods import ParameterCount, count_parameters


def count_parts(
    text_encoders: Mapping[str, TextEncoder],
    *,
    head: Sequence[nn.Parameter],
    user: Sequence[nn.Parameter],
    ids: Sequence[nn.Parameter],
    head_state: Mapping[str, torch.Tensor],
    id_state: Mapping[str, torch.Tensor],
) -> dict[str, ParameterCount]:
    """Count by part, of the text encoders' parts, `head`, `user`, `ids` those that are there.

    Where items and users have adapters on the same frozen weights, those are counted in both totals.

    Args:
        text_encoders: by part.
        head: trained parameters of the head, those of the user encoder and of pooling among them.
        user: those of the user encoder, and of what else makes users' vectors.
        ids: those that belong to single items.
        head_state: what is stored of the head, user encoder included.
        id_state: what is stored of single items.
    """
    counts = {
        part: count_parameters(
            trainable=encoder.method.named_parameters().values(),
            stored=encoder.method.published_tensors().values(),
            total=encoder.model.parameters(),
        )
        for part, encoder in text_encoders.items()
    }
    users = {id(parameter) for parameter in user}
    rest = [parameter for parameter in head if id(parameter) not in users]
    starts = ("user_encoder.", "profiles.", "user_attributes.")
    of_user = {name: t for name, t in head_state.items() if name.startswith(starts)}
    of_head = [tensor for name, tensor in head_state.items() if name not in of_user]
    counts["head"] = count_parameters(trainable=rest, stored=of_head, total=rest)
    if of_user:
        counts["user"] = count_parameters(trainable=user, stored=of_user.values(), total=user)
    if id_state:
        counts["ids"] = count_parameters(trainable=ids, stored=id_state.values(), total=ids)
    return counts
