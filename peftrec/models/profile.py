"""Vectors of users' texts, from a language model.

Shapes: B users, L places of a history, R vectors, H width of text vectors, D width of user vectors, P tokens of a text.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import ItemTexts, TextEncoder, TrainingVectors
from peftrec.models.profile_config import ProfileConfig
from peftrec.models.profile_text import Ints, ProfileTokens

# Vectors of texts that are kept: enough for an evaluation, and an end to it in a service.
_MOST_REMEMBERED = 2**17


@dataclasses.dataclass(frozen=True)
class ProfilePlan:
    """Which texts to encode, and which places of histories their vectors belong to.

    Args:
        texts: one a user.
        row_R: the user that a vector belongs to, ascending.
        place_R: the place of the history.
        token_R: the token of the text whose state is the vector; None where states are pooled, one vector a text.
    """

    texts: ItemTexts
    row_R: torch.Tensor
    place_R: torch.Tensor
    token_R: torch.Tensor | None

    def chunks(self, token_budget: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return, chunk by chunk, the texts to encode and the vectors that they give; others are left out."""
        used = self.row_R.unique()  # type: ignore[no-untyped-call]
        parts = [used[chunk] for chunk in self.texts.chunks(used, token_budget)]
        return [(part, torch.isin(self.row_R, part).nonzero()[:, 0]) for part in parts]


@dataclasses.dataclass(frozen=True)
class ProfileVectors:
    """Vectors of users' texts and where they belong; see `ProfilePlan`."""

    plan: ProfilePlan
    vectors_RH: torch.Tensor


class Profiles(nn.Module):
    """Reads users' texts, and adds what they say to user vectors.

    user = history + out(x) with `fusion: add`, user = P x + out(x) with `alone`; x is the text vector on the whitened
    axes of the items, of unit length, P keeps the first D axes, and `out` is linear, zero at the start.

    Args:
        encoder: the text encoder; registered here where it is the users' own.
        config: the `profile` section.
        tokens: what texts are made of.
        dim: D.
        own: whether the encoder is the users' own, and not the items'.
    Raises:
        InputError: if the encoder cannot give a vector after every event where it must.
    """

    def __init__(
        self, encoder: TextEncoder, config: ProfileConfig, tokens: ProfileTokens, dim: int, *, own: bool
    ) -> None:
        super().__init__()
        if encoder.backbone.causal and encoder.method.pooled_states:
            raise InputError(
                f"profile.method.kind: '{encoder.method_config.kind}' gives one vector a text, but "
                f"{encoder.backbone.base.name} is a decoder, whose users have one after every event; use another kind"
            )
        self.config, self.tokens, self.own = config, tokens, own
        if own:
            self.text_encoder = encoder
        self._encoder = (encoder,)  # in a tuple, so that a shared one is not registered twice
        self.dim = dim
        self.out = nn.Linear(encoder.dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self._remembered: dict[bytes, torch.Tensor] = {}

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder in use."""
        return self._encoder[0]

    def forget(self) -> None:
        """Forget vectors that were computed with other weights."""
        self._remembered.clear()

    def plan(
        self,
        items_BL: Ints,
        events_BL: Ints | None,
        users_B: Ints | None,
        wanted_BL: NDArray[np.bool_] | None = None,
        keys_BL: NDArray[np.float64] | None = None,
    ) -> ProfilePlan:
        """Find which texts to encode.

        A decoder gives a vector at every wanted place whose events its text holds. An encoder gives one a user: at the
        newest place, or at one drawn at random among the wanted ones, with a text that ends there.

        Args:
            items_BL: histories as indexes of items, -1 for padding on the left.
            events_BL: kinds of events, or None.
            users_B: indexes of users whose attributes are known, or None.
            wanted_BL: True where a vector is of use; None wants the newest place alone.
            keys_BL: random numbers from 0 to 1, the highest of which draws the place; None draws them here.
        """
        newest = items_BL.shape[1] - 1
        if self.tokens.oldest_first:
            return self._plan_all_places(items_BL, events_BL, users_B, wanted_BL)
        place_B = np.full(len(items_BL), newest)
        if wanted_BL is not None:
            keys_BL = torch.rand(wanted_BL.shape).numpy() if keys_BL is None else keys_BL
            drawn_BL = np.where(wanted_BL, keys_BL, -1.0)
            place_B = drawn_BL.argmax(axis=1)
        shown_BL = np.where(np.arange(newest + 1) <= place_B[:, None], items_BL, -1)
        found = self.tokens.assemble(shown_BL, events_BL, users_B)
        told_B = found.texts.lengths.numpy() > self.tokens.num_special
        if wanted_BL is not None:
            told_B = told_B & wanted_BL.any(axis=1)
        row_R = np.flatnonzero(told_B)
        return ProfilePlan(found.texts, torch.from_numpy(row_R), torch.from_numpy(place_B[row_R]), None)

    def _plan_all_places(
        self, items_BL: Ints, events_BL: Ints | None, users_B: Ints | None, wanted_BL: NDArray[np.bool_] | None
    ) -> ProfilePlan:
        found = self.tokens.assemble(items_BL, events_BL, users_B)
        ends_BL = found.ends_BL.copy()
        newest = items_BL.shape[1] - 1
        # A user without events is known by attributes alone.
        alone_B = (items_BL[:, newest] < 0) & (found.texts.lengths.numpy() > self.tokens.num_special)
        ends_BL[alone_B, newest] = found.texts.lengths.numpy()[alone_B] - 1
        if wanted_BL is None:
            wanted_BL = np.arange(newest + 1)[None] == newest
        row_R, place_R = np.nonzero((ends_BL >= 0) & wanted_BL)
        return ProfilePlan(
            found.texts, torch.from_numpy(row_R), torch.from_numpy(place_R), torch.from_numpy(ends_BL[row_R, place_R])
        )

    @torch.no_grad()
    def vectors(self, plan: ProfilePlan) -> ProfileVectors:
        """Encode without gradients or dropout; vectors of the same text under the same weights are computed once."""
        was_training = self.encoder.training
        self.encoder.eval()
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.clear()
        keys = _keys(plan)
        # In training texts end elsewhere each time: they are not worth keeping.
        known = {} if self.training else self._remembered
        missing = torch.tensor([key not in known for key in keys], dtype=torch.bool)
        if bool(missing.any()):
            rest = dataclasses.replace(
                plan,
                row_R=plan.row_R[missing],
                place_R=plan.place_R[missing],
                token_R=None if plan.token_R is None else plan.token_R[missing],
            )
            new = [key for key in keys if key not in known]
            for texts, rows in rest.chunks(self.encoder.config.token_budget):
                for row, vector in zip(rows.tolist(), self._encode(rest, texts, rows), strict=True):
                    known[new[row]] = vector
        self.encoder.train(was_training)
        empty = torch.zeros(0, self.encoder.dim, device=self.encoder.device)
        found = [known[key] for key in keys]
        return ProfileVectors(plan, torch.stack(found) if found else empty)

    def training_vectors(self, plan: ProfilePlan, *, graph_bytes: int) -> TrainingVectors:
        """Encode as leaves; see `cached_vectors`. Graphs are kept as far as they fit into `graph_bytes`."""
        chunks = plan.chunks(self.encoder.config.token_budget)
        return self.encoder.cached_vectors(
            plan.texts,
            [texts for texts, _ in chunks],
            [rows for _, rows in chunks],
            lambda chunk: self._encode(plan, *chunks[chunk]),
            graph_bytes=graph_bytes,
        )

    def forward(self, users_BLD: torch.Tensor, unit_RH: torch.Tensor, plan: ProfilePlan) -> torch.Tensor:
        """Add what texts say to user vectors.

        Args:
            users_BLD: from the history; zeros with `fusion: alone`.
            unit_RH: text vectors on the items' axes.
            plan: where they belong.
        """
        update_RD = self.out(unit_RH)
        if self.config.fusion == "alone":
            update_RD = update_RD + unit_RH[:, : self.dim]
        places = (plan.row_R.to(users_BLD.device), plan.place_R.to(users_BLD.device))
        return users_BLD.index_put(places, update_RD.to(users_BLD.dtype), accumulate=True)

    def _encode(self, plan: ProfilePlan, texts_C: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the vectors of some rows of a plan, whose texts are those given."""
        # Chunks hold texts from long to short, rows come in order of texts.
        local = torch.empty(int(texts_C.max()) + 1, dtype=torch.long)
        local[texts_C] = torch.arange(len(texts_C))
        own_R = local[plan.row_R[rows]]
        if plan.token_R is None:
            return self.encoder(plan.texts, texts_C)[own_R.to(self.encoder.device)]  # type: ignore[no-any-return]
        states_CPH, _ = self.encoder.token_states(plan.texts, texts_C)
        device = states_CPH.device
        return states_CPH[own_R.to(device), plan.token_R[rows].to(device)].float()


def _keys(plan: ProfilePlan) -> list[bytes]:
    """Return what tells the vectors of a plan apart: the tokens up to the one that is read."""
    tokens, offsets = plan.texts.tokens_T.numpy(), plan.texts.offsets.tolist()
    ends = [offsets[row + 1] for row in plan.row_R.tolist()]
    if plan.token_R is not None:
        ends = [offsets[row] + token + 1 for row, token in zip(plan.row_R.tolist(), plan.token_R.tolist(), strict=True)]
    return [tokens[offsets[row] : end].tobytes() for row, end in zip(plan.row_R.tolist(), ends, strict=True)]
