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
    model: RecommenderModel | None,
    num_users: int,
    texts: Sequence[str] | None,
    attributes: Sequence[Mapping[str, Any]] | None,
) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_]]:
    """Tell a model of users' texts and attributes, in place of what it has been told before.

    Args:
        model: None where the run is a baseline, which can be told nothing.
        num_users: B.
        texts: one a user, empty where nothing is known; None tells none.
        attributes: one mapping of columns to values a user; None tells none.
    Returns:
        Indexes of the users for `RecommenderModel.scores`, None where nothing is told; and of whom anything is known.
    Raises:
        InputError: if the model does not read what it is told, or that does not come to one a user.
    """
    told_B = np.zeros(num_users, dtype=bool)
    profiles = None if model is None else model.profiles
    part = None if model is None else model.user_attributes
    if texts is not None:
        if profiles is None:
            raise InputError("attributes were given, but this run reads no users' texts (its recipe has no profile)")
        if len(texts) != num_users:
            raise InputError(f"{len(texts)} attributes for {num_users} histories; there must be one of each")
        told_B |= np.array([bool(text.strip()) for text in texts])
    names = [f"user {number}" for number in range(1, num_users + 1)]
    features = given_features(part, attributes, "user", names)
    if texts is None and features is None:
        return None, told_B
    # Nobody gets what was told of someone else before.
    if profiles is not None:
        profiles.tokens.set_users([""] * num_users if texts is None else texts)
    if part is not None:
        features = part.fitted.encode_rows([{}] * num_users, names) if features is None else features
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
