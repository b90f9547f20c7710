"""The `encoder` section of a recipe."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from peftrec.config import Range
from peftrec.encoders.attention_kind import Attention
from peftrec.encoders.backbone import Dtype
from peftrec.encoders.quantization import Quantization


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where what the frozen backbone gives the catalogue is kept from one run to the next.

    Tokens, states that enter the lowest trained layer or that a side network reads, and vectors of the backbone as it
    is. Entries are found by a hash of weights, tokenizer, texts and settings, so that none is ever used for others;
    `peftrec cache` builds, lists and clears them.

    Args:
        folder: holds the entries; several processes may share it. None keeps nothing: states are then computed in each
            run and held in memory.
        dtype: of states; `float16` halves them at a relative error of some 3e-4, which is measured and said. What is
            reported and saved in the end is computed without them.
    """

    folder: str | None = "~/.cache/peftrec"
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.folder is not None and not self.folder.strip():
            raise ValueError("folder: is empty; it names the cache folder, or is null to keep nothing")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """How an item becomes a vector.

    Args:
        backbone: Hub id of any text model of `transformers`, or a folder that holds one.
        revision: commit or tag of the backbone; None takes the default branch.
        quantization: how the weights of linear modules inside the layers are stored: `none` leaves them as they are,
            `int8` takes a byte each, `nf4` and `fp4` half a byte (QLoRA). Other weights and all sums stay in full
            precision, but for GPUs that have bfloat16, where quantised layers compute in it (4 bits) or round their
            inputs too (int8); so a run belongs to the kind of device that it was trained on. Needs bitsandbytes.
        dtype: of weights that are not quantised, and so of the states in every pass. `bfloat16` halves the memory of a
            large backbone and spares casting its weights in each pass of mixed precision. What trains stays float32, so
            that methods which train weights of the backbone itself need `float32`. Vectors come out float32, with the
            rounding of bfloat16 in them: of the same text they differ by up to a percent from device to device and with
            what else is in the chunk.
        attention: implementation of attention; `auto` takes what `transformers` takes, `sdpa` where the backbone has
            it. `flash_attention_2` needs a CUDA device, the package flash-attn and `dtype: bfloat16`; a run that was
            trained with it loads elsewhere too, with `auto` in its place. `method.kind: prefix` acts on `sdpa` and
            `eager` alone.
        inputs: `text`, `ids`, or `text+ids`; with both, items without training interactions have no id vector and rest
            on their text.
        max_tokens: texts are cut to this many tokens, special tokens included.
        pooling: how token states become one vector; `auto` takes the mean for encoders and the last token for decoders.
            `attention` learns weights (see `TokenAttention`) and starts as the mean, for decoders too. It trains when
            the language model does: not in frozen epochs, in steps of `training.encoder_interval`, at the head's rate;
            with `method.kind: frozen` it is all that trains there, over states of all tokens, held in memory.
        attention_dim: inner width of attention pooling.
        prefix: put before every text; None takes what the backbone was trained with ("query: " for E5), if anything.
        whitening: map pooled vectors by x -> (x - mean) C^-power, with mean and C those of the frozen backbone over the
            catalogue.
        whitening_power: 0.25 whitens half-way (as `content_knn` does). 0.5 whitens fully: all axes get the variance
            lambda / (lambda + ridge), near 1 (Su et al., 2021, Whitening Sentence Representations). UniSRec's
            parametric whitening (x - b) W, with b and W learned (Hou et al., 2022, eq. 2), is this with `head:
            projection`, whose learned linear map follows; there W starts at random, and the vectors are not whitened.
        whitening_ridge: added to the eigenvalues of C.
        embedding_dim: width of item vectors; None keeps the backbone's.
        head: `residual` adds a zero-initialised MLP to the main axes of the (whitened) unit vectors, so that training
            starts from their similarities; the MLP reads all axes. `projection` is a freshly initialised linear map.
        residual_dim: inner width of that MLP.
        dropout: in the head.
        id_dropout: share of items whose id vector is left out in a training step.
        id_std: standard deviation of id vectors at the start.
        item_bias: add a learned logit per item, zero at the start; it belongs to the ids.
        token_budget: padded tokens in one chunk through the backbone.
        gradient_checkpointing: compute the states inside a layer again in the backward pass instead of holding them;
            for backbones of which one chunk does not fit.
        cache: where what the frozen backbone gives is kept; it decides no result but by `cache.dtype`.
    """

    backbone: str = "sentence-transformers/all-MiniLM-L6-v2"
    revision: str | None = None
    quantization: Quantization = "none"
    dtype: Dtype = "float32"
    attention: Attention = "auto"
    inputs: Literal["text", "ids", "text+ids"] = "text"
    max_tokens: Annotated[int, Range(ge=3)] = 64
    pooling: Literal["auto", "mean", "cls", "last", "attention"] = "auto"
    attention_dim: Annotated[int, Range(ge=1)] = 128
    prefix: str | None = None
    whitening: bool = True
    whitening_power: Annotated[float, Range(gt=0, le=0.5)] = 0.25
    whitening_ridge: Annotated[float, Range(gt=0)] = 1e-3
    embedding_dim: Annotated[int, Range(ge=1)] | None = None
    head: Literal["residual", "projection"] = "residual"
    residual_dim: Annotated[int, Range(ge=1)] = 128
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.3
    id_dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    id_std: Annotated[float, Range(gt=0)] = 1e-3
    item_bias: bool = False
    token_budget: Annotated[int, Range(ge=16)] = 1024
    gradient_checkpointing: bool = False
    cache: CacheConfig = dataclasses.field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        if not self.backbone.strip():
            raise ValueError("backbone: is empty; it is a Hub id such as sentence-transformers/all-MiniLM-L6-v2")
        if self.token_budget < self.max_tokens:
            raise ValueError(
                f"token_budget: {self.token_budget} is smaller than one text (max_tokens {self.max_tokens})"
            )
        if self.dtype != "float32" and self.quantization != "none":
            raise ValueError(
                f"dtype: {self.dtype} and quantization: {self.quantization} are two ways to store the same weights; "
                f"leave one out"
            )
        if self.attention == "flash_attention_2" and self.dtype != "bfloat16":
            raise ValueError("attention: flash_attention_2 takes states of 16 bits alone; set dtype: bfloat16")
        if self.item_bias and self.inputs == "text":
            raise ValueError("item_bias: belongs to the ids; use inputs: ids or text+ids")
        if self.inputs == "ids" and self.embedding_dim is None:
            raise ValueError("embedding_dim: with inputs: ids there is no backbone to take the width from; set it")
        if self.embedding_dim is not None and self.uses_text and self.head == "residual" and not self.whitening:
            raise ValueError("embedding_dim: the residual head keeps the backbone's width unless whitening is on")

    @property
    def uses_text(self) -> bool:
        """Whether item texts are read."""
        return self.inputs != "ids"

    @property
    def uses_ids(self) -> bool:
        """Whether items have id vectors."""
        return self.inputs != "text"
