"""What whoever asks for recommendations tells of users and of new items.

Shapes: B users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import AttributeFeatures
from peftrec.encoders import AttributePart
from peftrec.models.recommender_model import RecommenderModel


def given_users(
    models: Sequence[RecommenderModel],
    num_users: int,
    texts: Sequence[str] | None,
    attributes: Sequence[Mapping[str, Any]] | None,
) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_]]:
    """Tell models of users' texts and attributes, in place of what they have been told before.

    Args:
        models: of a run; none where it is a baseline, which can be told nothing.
        num_users: B.
        texts: one a user, empty where nothing is known; None tells none.
        attributes: one mapping of columns to values a user; None tells none.
    Returns:
        Indexes of the users for `RecommenderModel.scores`, None where nothing is told; and of whom anything is known.
    Raises:
        InputError: if no model reads what is told, or that does not come to one a user.
    """
    told_B = np.zeros(num_users, dtype=bool)
    if texts is None and attributes is None:
        return None, told_B
    profiles = [model.profiles for model in models if model.profiles is not None]
    parts = [model.user_attributes for model in models if model.user_attributes is not None]
    names = ["the user"] if num_users == 1 else [f"user {number}" for number in range(1, num_users + 1)]
    if texts is not None:
        if not profiles:
            raise InputError("attributes were given, but this run reads no users' texts (its recipe has no profile)")
        if len(texts) != num_users:
            raise InputError(f"{len(texts)} attributes for {num_users} histories; there must be one of each")
        told_B |= np.array([bool(text.strip()) for text in texts])
    if attributes is not None and not parts:
        given_features(None, attributes, "user", names)  # raises
    rows = [{}] * num_users if attributes is None else attributes
    read = [given_features(part, rows, "user", names) for part in parts]
    # Nobody gets what was told of someone else before.
    for profile in profiles:
        profile.tokens.set_users([""] * num_users if texts is None else texts)
    for part, features in zip(parts, read, strict=True):
        assert features is not None
        part.set_rows(features)
        told_B |= features.known
    return np.arange(num_users), told_B


def given_features(
    part: AttributePart | None, rows: Sequence[Mapping[str, Any]] | None, subject: str, names: Sequence[str]
) -> AttributeFeatures | None:
    """Return what is told of items or users as a model reads it; None where nothing is told.

    Args:
        part: of the model; None where it reads none.
        rows: one mapping of columns to values each.
        subject: `item` or `user`.
        names: of each row, for messages.
    Raises:
        InputError: if the model reads none, a column is unknown, or there is not one row for each name.
    """
    if rows is None:
        return None
    if part is None:
        raise InputError(
            f"attributes of {subject}s were given, but this run reads none (its recipe has no "
            f"data.{subject}_attributes)"
        )
    if len(rows) != len(names):
        raise InputError(f"attributes of {len(rows)} {subject}s for {len(names)} {subject}s; there must be one of each")
    return part.fitted.encode_rows(rows, names)
