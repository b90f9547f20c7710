"""A pretrained language model with one PEFT method and pooling: texts in, vectors out.

Shapes: N texts, C texts in a chunk, P padded tokens of one text, H width of a state,
K states of one text.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders.backbone import Backbone
from peftrec.encoders.config import EncoderConfig
from peftrec.encoders.encoder_check import check_float32, check_method, check_positions, enable_checkpointing
from peftrec.encoders.frozen_state import Rounding, compute_states, frozen_part, put_rows
from peftrec.encoders.gradient_cache import TrainingVectors, cached_vectors
from peftrec.encoders.item_text import ItemTexts, tokenize_texts
from peftrec.encoders.precision import exact_products, full_precision, in_training_precision
from peftrec.encoders.token_attention import TokenAttention
from peftrec.encoders.transfer import Tensors, Transfer, to_device
from peftrec.encoders.trunk import entering_states, stored_states
from peftrec.methods import MethodConfig, find_layers
from peftrec.methods.structure import position_limit

_MANY_CHUNKS = 8


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
        check_method(backbone, config, method, limit)
        self.backbone = backbone
        self.config = config
        self.num_layers = len(find_layers(backbone.model).layers)
        self.method_config = method
        self.method = method.apply(backbone.model)
        self.model = self.method.model
        # Of passes in training mode; None takes that of the weights. Training sets it for as long as it lasts.
        self.training_dtype: torch.dtype | None = None
        self.in_step = False  # whether processes must encode equally many chunks, since they hold parts of layers
        check_float32(method, self.method.named_parameters())
        if config.gradient_checkpointing:
            enable_checkpointing(self.model, backbone.base.name, method)
        check_positions(backbone.base.name, self.method.num_virtual_tokens, config, limit)
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
        reads 4 * H * K a text. Nothing is stored where `frozen_part` has nothing; `TextCache` keeps them in a file.
        """
        part = frozen_part(self)
        if part is None:
            return texts
        # In memory of the host, however many there are; chunks of them go to the device.
        states = torch.empty(part.num_rows(texts), *part.row_shape)
        write = functools.partial(put_rows, states)
        compute_states(self, texts, write, Rounding(torch.float32, part.label))
        return part.put(texts, states)

    @torch.no_grad()
    @full_precision
    def frozen_rows(self, texts: ItemTexts, items_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states of one chunk that stay the same in training, and their places among those of all texts.

        Only for an encoder that `frozen_part` has something of.

        Returns:
            Places (R,) and rows (R, ...): pooled states (C, K, H), or those of all tokens (R, H), text by text.
        """
        loaded = self.load(texts, items_C)
        if self.method.pooled_states:
            return items_C, self._pooled_states(loaded)
        place_CP, valid_CP = texts.gather(items_C)
        inputs = self._inputs(loaded)
        if self.method.first_layer < self.num_layers:
            states_CPH = entering_states(self.model, self.method.first_layer, **inputs)
        else:
            states_CPH = self.model(**inputs).last_hidden_state
        return place_CP[valid_CP], states_CPH[valid_CP.to(self.device)]

    def load(self, texts: ItemTexts, items_C: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gather what one chunk is computed from, where the texts are kept.

        Returns:
            `pooled_CKH` where pooled states are stored; else `tokens_CP`, `valid_CP`, and `states_CPH` where states of
            the trunk are stored.
        """
        if texts.pooled_NKH is not None:
            # By whole rows, which is three times as fast as an index.
            return {"pooled_CKH": texts.pooled_NKH.index_select(0, items_C)}
        place_CP, valid_CP = texts.gather(items_C)
        padding = torch.tensor(self.backbone.tokenizer.pad_token_id)
        gathered = {"tokens_CP": torch.where(valid_CP, texts.tokens_T[place_CP], padding), "valid_CP": valid_CP}
        if texts.trunk_TH is None:
            return gathered
        states_CPH = texts.trunk_TH.index_select(0, place_CP.flatten()).view(*place_CP.shape, -1)
        return gathered | {"states_CPH": states_CPH}

    def chunks(self, texts: ItemTexts, items: torch.Tensor) -> list[torch.Tensor]:
        """Cut indexes into `items` into chunks that are encoded at once; see `ItemTexts.chunks`.

        Stored pooled states have no tokens: chunks of them are as large as those of one token a state would be.
        """
        if texts.pooled_NKH is None:
            return texts.chunks(items, self.config.token_budget)
        return list(torch.split(torch.arange(len(items)), self.config.token_budget))

    def transfer(self, texts: ItemTexts, chunks: Sequence[torch.Tensor]) -> Transfer:
        """Return what chunks of texts are computed from, by the number of the chunk, on the device."""
        return Transfer(lambda number: self.load(texts, chunks[number]), len(chunks), self.device)

    @in_training_precision
    def forward(self, texts: ItemTexts, items_C: torch.Tensor, loaded: Tensors | None = None) -> torch.Tensor:
        """Encode one chunk, with gradients where they are on; shape (C, H).

        Args:
            texts: all texts.
            items_C: indexes of those of the chunk.
            loaded: of them, from `load` or `transfer`, or embeddings as `embeds_CPH` for `tokens_CP`; None loads it.
        """
        loaded = self.load(texts, items_C) if loaded is None else loaded
        if self.method.pooled_states:
            stored_CKH = loaded.get("pooled_CKH")
            pooled_CKH = self._pooled_states(loaded) if stored_CKH is None else to_device(stored_CKH, self.device)
            return self.method.combine(pooled_CKH.float()).float()
        states_CPH, valid_CP = self.token_states(texts, items_C, loaded)
        return self._pool(states_CPH, valid_CP)

    @in_training_precision
    def token_states(
        self, texts: ItemTexts, items_C: torch.Tensor, loaded: Tensors | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last states of all tokens of one chunk (C, P, H), and which of them are tokens (C, P)."""
        loaded = self.load(texts, items_C) if loaded is None else loaded
        valid_CP = to_device(loaded["valid_CP"], self.device)
        if "states_CPH" not in loaded:
            states_CPH = self.model(**self._inputs(loaded)).last_hidden_state
        else:
            # Stored states may be of half precision.
            stored_CPH = to_device(loaded["states_CPH"], self.device).to(self.backbone.dtype)
            if self.method.first_layer == self.num_layers:
                return stored_CPH, valid_CP
            with stored_states(self.model, self.method.first_layer, stored_CPH):
                states_CPH = self.model(**self._inputs(loaded)).last_hidden_state
        return states_CPH[:, self.method.num_virtual_tokens :], valid_CP

    @torch.no_grad()
    @exact_products
    def encode(self, texts: ItemTexts, items: torch.Tensor | None = None) -> torch.Tensor:
        """Encode texts chunk by chunk without gradients or dropout; shape (N, H), in the order of `items`."""
        items = torch.arange(len(texts)) if items is None else items
        vectors_NH = torch.empty(len(items), self.dim, device=self.device)
        # Vectors are cached: where dropout drew random numbers here, a resumed run would draw others than a whole one.
        was_training = self.training
        self.eval()
        chunks = self.chunks(texts, items)
        loaded = self.transfer(texts, [items[chunk] for chunk in chunks])
        # What is computed once for all chunks takes as long as a few of them.
        once = self.method.unchanging() if len(chunks) > _MANY_CHUNKS else contextlib.nullcontext()
        with once:
            for number, chunk in enumerate(chunks):
                vectors_NH[to_device(chunk, self.device)] = self(texts, items[chunk], loaded[number])
        self.train(was_training)
        return vectors_NH

    def training_vectors(self, texts: ItemTexts, items: torch.Tensor, *, graph_bytes: int) -> TrainingVectors:
        """Encode texts as leaves whose stored gradient can be carried into the encoder (see `cached_vectors`)."""
        chunks = self.chunks(texts, items)
        items_of = [items[chunk] for chunk in chunks]
        loaded = self.transfer(texts, items_of)
        return self.cached_vectors(
            texts,
            items_of,
            chunks,
            lambda chunk: self(texts, items_of[chunk], loaded[chunk]),
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

    def batches(self, texts: ItemTexts) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the model's inputs for all texts, chunk by chunk."""
        for chunk in texts.chunks(torch.arange(len(texts)), self.config.token_budget):
            yield self._inputs(self.load(texts, chunk))

    def _pooled_states(self, loaded: Tensors) -> torch.Tensor:
        """Return the pooled states that the method reads, shape (C, K, H); of a frozen backbone, so without a graph."""
        inputs = self._inputs(loaded)
        states = self.model(**inputs, output_hidden_states=True).hidden_states
        valid_CP = inputs["attention_mask"].bool()
        return torch.stack([self._pool(states[k], valid_CP) for k in self.method.pooled_states], dim=1)

    def _inputs(self, loaded: Tensors) -> dict[str, torch.Tensor]:
        name, key = ("embeds_CPH", "inputs_embeds") if "embeds_CPH" in loaded else ("tokens_CP", "input_ids")
        texts_CP, valid_CP = (to_device(loaded[one], self.device) for one in (name, "valid_CP"))
        return {key: texts_CP, "attention_mask": valid_CP.long()}

    @full_precision
    def _pool(self, states_CPH: torch.Tensor, valid_CP: torch.Tensor) -> torch.Tensor:
        """Return one vector a text in float32: a sum over tokens that were rounded would be rounded once more."""
        states_CPH = states_CPH.float()
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
