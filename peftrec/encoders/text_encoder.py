"""A pretrained language model with one PEFT method and pooling: texts in, vectors out.

Shapes: N texts, C texts in a chunk, P padded tokens of one text, H width of a state,
K states of one text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders.backbone import Backbone
from peftrec.encoders.config import EncoderConfig
from peftrec.encoders.gradient_cache import TrainingVectors, cached_vectors
from peftrec.encoders.item_text import ItemTexts, tokenize_texts
from peftrec.encoders.token_attention import TokenAttention
from peftrec.encoders.trunk import entering_states, stored_states
from peftrec.methods import MethodConfig, find_layers
from peftrec.methods.structure import position_limit


class TextEncoder(nn.Module):
    """Encodes texts with a backbone into which a method has been injected.

    Args:
        backbone: as loaded; changed in place.
        config: the `encoder` section.
        method: config of the method to inject.
    """

    def __init__(self, backbone: Backbone, config: EncoderConfig, method: MethodConfig) -> None:
        super().__init__()
        limit = position_limit(backbone.model)
        if limit is not None and config.max_tokens > limit:
            raise InputError(
                f"encoder.max_tokens is {config.max_tokens}, but {backbone.base.name} has {limit} positions"
            )
        able = method.declared()
        if not (able.decoder if backbone.causal else able.encoder):
            kind = "a decoder" if backbone.causal else "an encoder"
            raise InputError(f"method.kind: '{method.kind}' does not work on {backbone.base.name}, which is {kind}")
        if method.layers != "all" and not able.can_limit_layers:
            raise InputError(f"method.layers: '{method.kind}' acts on all layers or none; use all")
        if backbone.quantization != "none" and not able.quantized_base:
            raise InputError(
                f"method.kind: '{method.kind}' with these settings does not work on quantised weights "
                f"(encoder.quantization is {backbone.quantization}); use encoder.quantization=none"
            )
        self.backbone = backbone
        self.config = config
        self.num_layers = len(find_layers(backbone.model).layers)
        self.method_config = method
        self.method = method.apply(backbone.model)
        self.model = self.method.model
        if config.gradient_checkpointing:
            self._enable_checkpointing(able.supports_checkpointing)
        extra = self.method.num_virtual_tokens
        if limit is not None and extra + config.max_tokens > limit:
            raise InputError(
                f"method.num_tokens is {extra}: with encoder.max_tokens={config.max_tokens} that is more than the "
                f"{limit} positions of {backbone.base.name}; use at most {max(0, limit - config.max_tokens)}"
            )
        pooling = config.pooling
        self.pooling = ("last" if backbone.causal else "mean") if pooling == "auto" else pooling
        self.token_attention: TokenAttention | None = None
        if self.pooling == "attention":
            if method.reads_pooled_states:
                raise InputError(
                    f"encoder.pooling: attention learns from the states of all tokens, but '{method.kind}' reads "
                    f"pooled ones, once; use mean"
                )
            self.token_attention = TokenAttention(self.dim, config.attention_dim).to(self.device)
        self.prefix = backbone.default_prefix if config.prefix is None else config.prefix

    @property
    def dim(self) -> int:
        """Width H of the vectors."""
        return self.backbone.dim

    @property
    def device(self) -> torch.device:
        """Where the backbone lives."""
        return next(self.model.parameters()).device

    def pooling_parameters(self) -> list[nn.Parameter]:
        """Return what attention pooling trains."""
        return [] if self.token_attention is None else list(self.token_attention.parameters())

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return all that moves the vectors when it is trained: the method's parameters and those of pooling."""
        return [*self.method.named_parameters().values(), *self.pooling_parameters()]

    def train(self, mode: bool = True) -> TextEncoder:
        """Switch the method's dropout only: the frozen layers always run in eval mode."""
        super().train(False)
        self.training = mode
        self.method.set_training(mode)
        if self.config.gradient_checkpointing:
            # A layer asks its own mode whether to checkpoint; dropout asks that of the modules inside, which stays.
            for layer in find_layers(self.model).layers:
                layer.training = mode
        return self

    def tokenize(self, texts: Sequence[str]) -> ItemTexts:
        """Tokenise texts for this backbone; see `tokenize_texts`."""
        return tokenize_texts(self.backbone.tokenizer, texts, max_tokens=self.config.max_tokens, prefix=self.prefix)

    def store_trunk(self, texts: ItemTexts) -> ItemTexts:
        """Return the texts with the states that stay the same in training, computed once and held in memory.

        Those that enter the lowest changed layer cost 4 * H bytes a token, those that a method beside the backbone
        reads 4 * H * K a text. Nothing is stored where the method reaches down to the embeddings. Where no layer
        changes, but pooling learns, the last states are stored.
        """
        first = self.method.first_layer
        everything = torch.arange(len(texts))
        chunks = texts.chunks(everything, self.config.token_budget)
        if self.method.pooled_states:
            pooled_NKH = torch.empty(len(texts), len(self.method.pooled_states), self.dim, device=self.device)
            for chunk in chunks:
                pooled_NKH[chunk.to(self.device)] = self._pooled_states(texts, chunk)
            return dataclasses.replace(texts, pooled_NKH=pooled_NKH)
        if not 0 < first < self.num_layers + (self.token_attention is not None):
            return texts
        trunk_TH = torch.empty(len(texts.tokens_T), self.dim, device=self.device)
        with torch.no_grad():
            for chunk in chunks:
                place_CP, valid_CP = texts.gather(chunk)
                inputs = self._inputs(texts, place_CP, valid_CP)
                if first < self.num_layers:
                    states_CPH = entering_states(self.model, first, **inputs)
                else:
                    states_CPH = self.model(**inputs).last_hidden_state
                trunk_TH[place_CP[valid_CP].to(self.device)] = states_CPH[valid_CP.to(self.device)].float()
        return dataclasses.replace(texts, trunk_TH=trunk_TH)

    def forward(self, texts: ItemTexts, items_C: torch.Tensor) -> torch.Tensor:
        """Encode one chunk, with gradients where they are on; shape (C, H)."""
        if self.method.pooled_states:
            stored = texts.pooled_NKH
            pooled_CKH = self._pooled_states(texts, items_C) if stored is None else stored[items_C.to(stored.device)]
            return self.method.combine(pooled_CKH.to(self.device)).float()
        states_CPH, valid_CP = self.token_states(texts, items_C)
        return self._pool(states_CPH, valid_CP).float()

    def token_states(self, texts: ItemTexts, items_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last states of all tokens of one chunk (C, P, H), and which of them are tokens (C, P)."""
        place_CP, valid_CP = texts.gather(items_C)
        if texts.trunk_TH is None:
            states_CPH = self.model(**self._inputs(texts, place_CP, valid_CP)).last_hidden_state
        else:
            stored_CPH = texts.trunk_TH[place_CP.to(texts.trunk_TH.device)].to(self.device)
            if self.method.first_layer == self.num_layers:
                return stored_CPH, valid_CP.to(self.device)
            with stored_states(self.model, self.method.first_layer, stored_CPH):
                states_CPH = self.model(**self._inputs(texts, place_CP, valid_CP)).last_hidden_state
        return states_CPH[:, self.method.num_virtual_tokens :], valid_CP.to(self.device)

    @torch.no_grad()
    def encode(self, texts: ItemTexts, items: torch.Tensor | None = None) -> torch.Tensor:
        """Encode texts chunk by chunk without gradients or dropout; shape (N, H), in the order of `items`."""
        items = torch.arange(len(texts)) if items is None else items
        vectors_NH = torch.empty(len(items), self.dim, device=self.device)
        # Vectors are cached: where dropout drew random numbers here, a resumed run would draw others than a whole one.
        was_training = self.training
        self.eval()
        for chunk in texts.chunks(items, self.config.token_budget):
            vectors_NH[chunk.to(self.device)] = self(texts, items[chunk])
        self.train(was_training)
        return vectors_NH

    def training_vectors(self, texts: ItemTexts, items: torch.Tensor, *, graph_bytes: int) -> TrainingVectors:
        """Encode texts as leaves whose stored gradient can be carried into the encoder (see `cached_vectors`)."""
        chunks = texts.chunks(items, self.config.token_budget)
        return self.cached_vectors(
            texts,
            [items[chunk] for chunk in chunks],
            chunks,
            lambda chunk: self(texts, items[chunks[chunk]]),
            graph_bytes=graph_bytes,
        )

    def cached_vectors(
        self,
        texts: ItemTexts,
        chunks: Sequence[torch.Tensor],
        rows: Sequence[torch.Tensor],
        encode: Callable[[int], torch.Tensor],
        *,
        graph_bytes: int,
    ) -> TrainingVectors:
        """Encode with this encoder as leaves; see the function of that name.

        Args:
            texts: tokens.
            chunks: which of the texts each chunk holds, those of the longest texts first.
            rows: which rows of the result each chunk gives.
            encode: the number of a chunk to its vectors.
            graph_bytes: graphs are kept where they fit into this.
        """
        # The inputs of layers that are computed again stand in no graph.
        layers = self.num_layers - self.method.first_layer if self.config.gradient_checkpointing else 0
        return cached_vectors(
            rows,
            encode,
            (sum(len(places) for places in rows), self.dim),
            self.device,
            sizes=[len(chunk) * int(texts.lengths[chunk].max()) for chunk in chunks],
            graph_bytes=graph_bytes,
            parameters=self.model.parameters(),
            unseen_bytes=layers * 4 * self.dim,
        )

    def _enable_checkpointing(self, supported: bool) -> None:
        name = self.backbone.base.name
        if not supported:
            raise InputError(
                f"encoder.gradient_checkpointing: '{self.method_config.kind}' does not work with it; leave it off"
            )
        # transformers is renaming it.
        model: Any = self.model
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        try:
            enable({"use_reentrant": False})
        except ValueError as error:
            raise InputError(f"encoder.gradient_checkpointing: {name} does not support it ({error})") from None

    def batches(self, texts: ItemTexts) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the model's inputs for all texts, chunk by chunk."""
        for chunk in texts.chunks(torch.arange(len(texts)), self.config.token_budget):
            yield self._inputs(texts, *texts.gather(chunk))

    @torch.no_grad()
    def _pooled_states(self, texts: ItemTexts, items_C: torch.Tensor) -> torch.Tensor:
        """Return the pooled hidden states that the method reads, shape (C, K, H)."""
        place_CP, valid_CP = texts.gather(items_C)
        states = self.model(**self._inputs(texts, place_CP, valid_CP), output_hidden_states=True).hidden_states
        valid_CP = valid_CP.to(self.device)
        return torch.stack([self._pool(states[k], valid_CP).float() for k in self.method.pooled_states], dim=1)

    def _inputs(self, texts: ItemTexts, place_CP: torch.Tensor, valid_CP: torch.Tensor) -> dict[str, torch.Tensor]:
        padding = torch.tensor(self.backbone.tokenizer.pad_token_id)
        tokens_CP = torch.where(valid_CP, texts.tokens_T[place_CP], padding)
        return {"input_ids": tokens_CP.to(self.device), "attention_mask": valid_CP.long().to(self.device)}

    def _pool(self, states_CPH: torch.Tensor, valid_CP: torch.Tensor) -> torch.Tensor:
        if self.token_attention is not None:
            vectors_CH: torch.Tensor = self.token_attention(states_CPH, valid_CP)
            return vectors_CH
        if self.pooling == "cls":
            return states_CPH[:, 0]
        if self.pooling == "last":
            last_C = valid_CP.sum(1) - 1
            return states_CPH[torch.arange(len(last_C), device=last_C.device), last_C]
        weights_CP = valid_CP.to(states_CPH.dtype)
        return torch.einsum("cph,cp->ch", states_CPH, weights_CP / weights_CP.sum(1, keepdim=True))
