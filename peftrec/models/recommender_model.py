"""The recommender as one torch module: item encoder, user encoder, scorer.

Shapes: B users, L places of a history, C items at hand, N items of the catalogue, H width of text vectors, D width of
item vectors, P positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.data import AttributeFeatures
from peftrec.encoders import AttributePart, CatalogueText, ItemEncoder, TextEncoder
from peftrec.methods import AppliedMethod, ParameterCount, check_tensors
from peftrec.models.known import Known
from peftrec.models.part_count import count_parts
from peftrec.models.profile import Profiles, ProfileVectors
from peftrec.models.scorer import LearnedScale, ScorerConfig
from peftrec.models.user_encoder import UserEncoderConfig

# What the parts of the language model are called in counts and optimiser groups, by where they are stored.
_PARTS = {"adapter": "lm", "user_adapter": "user_lm"}
_IDS = ("item_encoder.id_vectors", "item_encoder.bias", "item_encoder.has_id")


class RecommenderModel(nn.Module):
    """Scores items for histories; knows nothing of files or of training.

    Args:
        catalogue_text: texts of the catalogue with their encoder; None where only ids are used.
        item_encoder: from text vectors and ids to item vectors.
        user: config of the user encoder.
        scorer: config of the scorer.
        profiles: reads users' texts; None where there are none to read.
        user_attributes: what users' attributes add to their vectors; None where there are none.
        learns_margin: whether the logits in training have a margin taken off; see `LearnedScale`.
    """

    def __init__(
        self,
        catalogue_text: CatalogueText | None,
        item_encoder: ItemEncoder,
        user: UserEncoderConfig,
        scorer: ScorerConfig,
        profiles: Profiles | None = None,
        user_attributes: AttributePart | None = None,
        *,
        learns_margin: bool = False,
    ) -> None:
        super().__init__()
        self.catalogue_text = catalogue_text
        self.text_encoder: TextEncoder | None = None if catalogue_text is None else catalogue_text.encoder
        self.item_encoder = item_encoder
        reads_history = profiles is None or profiles.config.fusion == "add"
        self.user_encoder = user.build(item_encoder.dim) if reads_history else None
        self.needs_times = reads_history and user.needs_times
        self.max_history = user.max_history
        self.profiles = profiles
        self.user_attributes = user_attributes
        self.scorer = scorer
        self.scale = LearnedScale(scorer.start_scale, learned=scorer.learn_scale, learns_margin=learns_margin)
        self.second_stage = scorer.second_stage(item_encoder.dim)

    @property
    def device(self) -> torch.device:
        """Where the head lives."""
        return self.scale.log_scale.device

    def item_vectors(
        self,
        text_vectors_CH: torch.Tensor | None,
        items_C: torch.Tensor | None,
        features: AttributeFeatures | None = None,
    ) -> torch.Tensor:
        """Return item vectors as the scorer takes them, shape (C, D); arguments as in `ItemEncoder.forward`."""
        return self.scorer.prepare(self.item_encoder(text_vectors_CH, items_C, features))

    def user_vectors(
        self,
        item_vectors_CD: torch.Tensor,
        histories_BL: torch.Tensor,
        profile: ProfileVectors | None = None,
        times_BL: torch.Tensor | None = None,
        users_B: torch.Tensor | None = None,
        at: tuple[Any, Any] = (slice(None), slice(None)),
    ) -> torch.Tensor:
        """Return user vectors at every place, shape (B, L, D), or at some.

        An empty history gives zeros, but for what the user's text says, and at the newest place the attributes.

        Args:
            item_vectors_CD: from `item_vectors`.
            histories_BL: places among those C items, -1 for padding, which stands on the left.
            profile: vectors of the users' texts.
            times_BL: when events happened, int64 milliseconds; read where `needs_times`.
            users_B: indexes of users whose attributes have been set, -1 for others; None for none.
            at: rows and places that are wanted, as an index of the first two axes; what the scorer makes of a vector it
                makes of these alone.
        Raises:
            InputError: if times are needed and there are none.
        """
        if self.needs_times and times_BL is None:
            raise InputError("user.time_intervals: this model reads when events happened, but was given no times")
        valid_BL = histories_BL >= 0
        if self.user_encoder is None:
            users_BLD = item_vectors_CD.new_zeros(*histories_BL.shape, item_vectors_CD.shape[1])
        else:
            # As an embedding, whose gradient is summed much faster than that of an index.
            items_BLD = nn.functional.embedding(histories_BL.clamp(min=0), item_vectors_CD)
            times = (times_BL,) if self.needs_times else ()
            users_BLD = self.user_encoder(items_BLD, valid_BL, *times)
        if profile is not None:
            assert self.profiles is not None, "this model reads no users' texts"
            unit_RH = self.item_encoder.unit_axes(profile.vectors_RH)
            users_BLD = self.profiles(users_BLD, unit_RH, profile.plan)
        if self.user_attributes is not None and users_B is not None:
            told_BL = valid_BL.clone()
            told_BL[:, -1] = True
            users_BLD = users_BLD + self.user_attributes(users_B)[:, None] * told_BL[..., None]
        return self.scorer.prepare(users_BLD[at])

    @torch.no_grad()
    def encode_catalogue(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of all items (N, D) and the logit added to each (N,), for the present weights."""
        was_training = self.training
        self.eval()
        text_NH = None if self.catalogue_text is None else self.catalogue_text.vectors()
        num_items = len(self.item_encoder.has_id) if text_NH is None else len(text_NH)
        items_N = torch.arange(num_items, device=self.device)
        vectors_ND = self.item_vectors(text_NH, items_N)
        bias_N = self.item_encoder.candidate_bias(items_N)
        self.train(was_training)
        return vectors_ND, vectors_ND.new_zeros(num_items) if bias_N is None else bias_N

    @torch.no_grad()
    def encode_new_items(
        self, texts: list[str], features: AttributeFeatures | None = None, items_C: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the vectors of items from texts and attributes that are not in the catalogue, shape (C, D).

        Args:
            texts: of the items.
            features: their attributes; None: those of the catalogue.
            items_C: indexes in the trained catalogue of items that have got other texts or attributes, -1 for new ones;
                None where all are new. What was learned of an item alone stays its own.
        Raises:
            InputError: if the model reads neither, or only attributes and there are none of an item.
        """
        self.eval()
        text_CH = None
        if self.text_encoder is not None:
            text_CH = self.text_encoder.encode(self.text_encoder.tokenize(texts))
        return self.item_vectors(text_CH, items_C, features)

    @torch.no_grad()
    def scores(
        self, histories_BL: torch.Tensor, item_vectors_ND: torch.Tensor, bias_N: torch.Tensor, **known: Unpack[Known]
    ) -> torch.Tensor:
        """Return the scores of all items for histories, shape (B, N).

        Args:
            histories_BL: indexes of items, -1 for padding, which stands on the left; only the last `max_history` places
                are read.
            item_vectors_ND: and `bias_N`, from `encode_catalogue`.
            known: of the users beside their histories.
        """
        users_BD = self.newest_user_vectors(histories_BL, item_vectors_ND, **known)
        first_BN = torch.addmm(bias_N, users_BD * self.scale(), item_vectors_ND.T)
        return first_BN if self.second_stage is None else self.second_stage.rescore(first_BN, users_BD, item_vectors_ND)

    @torch.no_grad()
    def newest_user_vectors(
        self, histories_BL: torch.Tensor, item_vectors_ND: torch.Tensor, **known: Unpack[Known]
    ) -> torch.Tensor:
        """Return user vectors after the newest event, without the scale, shape (B, D); arguments as in `scores`."""
        users_B, events_BL = known.get("users_B"), known.get("events_BL")
        times_BL, items_N = known.get("times_BL"), known.get("items_N")
        histories_BL = histories_BL[:, -self.max_history :]
        profile = None
        if self.profiles is not None:
            read_BL = histories_BL.cpu()
            if items_N is not None:
                read_BL = torch.where(read_BL >= 0, items_N.cpu()[read_BL.clamp(min=0)], -1)
            events_BL = None if events_BL is None else events_BL[:, -self.max_history :]
            profile = self.profiles.vectors(self.profiles.plan(read_BL.numpy(), events_BL, users_B))
        times = None
        if self.needs_times and times_BL is not None:
            times = torch.from_numpy(times_BL[:, -self.max_history :]).to(histories_BL.device)
        of_B = None if users_B is None else torch.from_numpy(users_B).to(histories_BL.device)
        return self.user_vectors(item_vectors_ND, histories_BL, profile, times, of_B, at=(slice(None), -1))

    def methods(self) -> list[AppliedMethod]:
        """Return the PEFT methods in use: that of the items, and that of the users where they have their own."""
        return [encoder.method for encoder in self.text_encoders().values()]

    def text_encoders(self) -> dict[str, TextEncoder]:
        """Return the text encoders by the name under which their parts are stored."""
        encoders = {} if self.text_encoder is None else {"adapter": self.text_encoder}
        if self.profiles is not None and self.profiles.own:
            encoders["user_adapter"] = self.profiles.encoder
        return encoders

    def method_parameters(self) -> list[nn.Parameter]:
        """Return what the PEFT methods train."""
        return [parameter for _, parameter, _ in self.method_rates()]

    def pooling_parameters(self) -> list[nn.Parameter]:
        """Return what attention pooling trains; it steps with the language model."""
        return [parameter for encoder in self.text_encoders().values() for parameter in encoder.pooling_parameters()]

    def method_rates(self) -> list[tuple[str, nn.Parameter, float]]:
        """Return what the PEFT methods train: the part (`lm` or `user_lm`), and the factor on its learning rate."""
        return [
            (_PARTS[start], parameter, factors.get(name, 1.0))
            for start, encoder in self.text_encoders().items()
            for factors in [encoder.method.rate_factors()]
            for name, parameter in encoder.method.named_parameters().items()
        ]

    def id_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that belong to single items."""
        return self.item_encoder.id_parameters()

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters that belong to neither: item head, user encoder, scorer."""
        ids = {id(parameter) for parameter in self.id_parameters()}
        parts = (self.item_encoder, self.scale, self.second_stage)
        own = [p for part in parts if part is not None for p in part.parameters() if id(p) not in ids]
        return [*own, *self._user_parameters()]

    def _user_parameters(self) -> list[nn.Parameter]:
        parts = (self.user_encoder, None if self.profiles is None else self.profiles.out, self.user_attributes)
        return [parameter for part in parts if part is not None for parameter in part.parameters()]

    def head_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the head, buffers included, without ids and language model."""
        return {name: tensor for name, tensor in self._own_state().items() if name not in _IDS}

    def id_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that belong to single items."""
        return {name: tensor for name, tensor in self._own_state().items() if name in _IDS}

    @torch.no_grad()
    def load_own_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load head and ids together.

        Raises:
            InputError: if a key is missing or foreign, or a shape differs.
        """
        own = self._own_state()
        check_tensors(own, tensors, what="head")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Return copies of everything that training moves: adapters, head, ids."""
        state = self._own_state()
        for start, encoder in self.text_encoders().items():
            state |= {f"{start}.{name}": tensor for name, tensor in encoder.method.state_dict().items()}
        return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}

    def load_trained_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load what `trained_state` returned."""
        starts = ("adapter.", "user_adapter.")
        self.load_own_state({name: tensor for name, tensor in tensors.items() if not name.startswith(starts)})
        for start, encoder in self.text_encoders().items():
            own = {n.removeprefix(f"{start}."): t for n, t in tensors.items() if n.startswith(f"{start}.")}
            encoder.method.load_state_dict(own)
        if self.method_parameters() or self.pooling_parameters():  # a frozen backbone's vectors stay what they are
            self.weights_changed()

    def weights_changed(self) -> None:
        """Forget text vectors that were computed with other weights."""
        if self.catalogue_text is not None:
            self.catalogue_text.weights_changed()
        if self.profiles is not None:
            self.profiles.forget()

    def parameter_counts(self) -> dict[str, ParameterCount]:
        """Count parameters and bytes by part, of `lm`, `user_lm`, `head`, `user`, `ids` those that are there."""
        encoders = {_PARTS[start]: encoder for start, encoder in self.text_encoders().items()}
        user_pooling = encoders["user_lm"].pooling_parameters() if "user_lm" in encoders else []
        return count_parts(
            encoders,
            head=[*self.head_parameters(), *self.pooling_parameters()],
            user=[*self._user_parameters(), *user_pooling],
            ids=self.id_parameters(),
            head_state=self.head_state(),
            id_state=self.id_state(),
        )

    def _own_state(self) -> dict[str, torch.Tensor]:
        backbones = ("text_encoder.model.", "profiles.text_encoder.model.")
        return {name: t.detach() for name, t in self.state_dict().items() if not name.startswith(backbones)}
