"""How long texts are for a backbone, without its weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peftrec.encoders.backbone import default_prefix, load_tokenizer
from peftrec.encoders.config import EncoderConfig


def token_lengths(config: EncoderConfig, texts: Sequence[str]) -> NDArray[np.int64]:
    """Count the tokens of texts before any cut, special tokens and the encoder's prefix among them.

    Args:
        config: names the backbone, and the prefix if any.
        texts: N texts.
    Returns:
        int64, shape (N,).
    Raises:
        InputError: if the backbone's tokenizer cannot be loaded.
    """
    tokenizer = load_tokenizer(config.backbone, config.revision)
    prefix = default_prefix(config.backbone) if config.prefix is None else config.prefix
    lengths = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), 8192):
        batch = [prefix + text for text in texts[start : start + 8192]]
        rows = tokenizer(batch, truncation=False, verbose=False)["input_ids"]
        lengths[start : start + len(batch)] = [len(row) for row in rows]
    return lengths
