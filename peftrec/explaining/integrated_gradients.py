"""Which words of an item's text carry its score: integrated gradients over the embeddings of its tokens.

Shapes: C texts at once (steps of the integral), P tokens of the text, H width of a state, D width of vectors.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np
import torch

from peftrec.config import InputError
from peftrec.data import AttributeFeatures
from peftrec.encoders import ItemTexts, TextEncoder
from peftrec.explaining.explanation import WordAttribution, WordEvidence
from peftrec.explaining.word import Span, token_spans, words_of
from peftrec.models import RecommenderModel

# Steps are added until the residual is at most this share of score - baseline score, or of 1 where that is less.
TOLERANCE: Final = 0.02
FIRST_STEPS: Final = 16
MOST_STEPS: Final = 256


@dataclasses.dataclass(frozen=True)
class Subject:
    """An item whose text is asked about.

    Args:
        text: as the catalogue has it.
        index: in the trained catalogue; None for an item that was not in it.
        features: attributes of such an item; None where there are none.
    """

    text: str
    index: int | None
    features: AttributeFeatures | None = None

    def features_of(self, num_texts: int) -> AttributeFeatures | None:
        """Return the attributes, once for each of so many texts."""
        if self.features is None:
            return None
        codes = tuple(np.repeat(column, num_texts, axis=0) for column in self.features.codes)
        numbers = np.repeat(self.features.numbers, num_texts, axis=0)
        return AttributeFeatures(np.repeat(self.features.known, num_texts), numbers, codes)


def attribute_words(
    model: RecommenderModel,
    subject: Subject,
    user_1D: torch.Tensor,
    *,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> WordAttribution:
    """Attribute the score of an item to the words of its text.

    IG(i) = (x_i - b_i) . int_0^1 d score(b + a (x - b)) / d x_i da over the token embeddings x of the text, against
    the embeddings b of the same text with padding in the place of every token of its words; tokens that the tokenizer
    adds, and those of a prefix, stay as they are. Along the way nothing but the item's text changes: not the user's
    vector, not the item's id, attributes and bias. Attributions of a word's tokens are added up. The sum of all is
    score - baseline score but for the steps of the integral (Gauss and Legendre's), of which there are twice as many as
    long as `tolerance` is not kept. The text runs through the whole model, method included, whatever is cached. With a
    second stage the score is that of the item as a candidate.

    Args:
        model: in evaluation mode; one that reads texts.
        subject: the item.
        user_1D: the user's vector, from `RecommenderModel.newest_user_vectors`.
        tolerance: on |residual|, as a share of |score - baseline score|, but of at least 1.
        most_steps: steps to stop at, whatever the residual; then `complete` is False.
    Raises:
        InputError: if captum is missing, or the model cannot be asked.
    """
    captum_class, encoder = _integrated_gradients(), _encoder(model)
    embeds_1PH, baseline_1PH, spans = _ends(encoder, subject.text)

    def score(embeds_CPH: torch.Tensor) -> torch.Tensor:
        return _scores(model, encoder, embeds_CPH, subject, user_1D)

    with torch.no_grad():
        reached, start = score(torch.cat([embeds_1PH, baseline_1PH])).tolist()
    if not math.isfinite(reached - start):
        raise InputError("a score is NaN or infinite: its words cannot be explained")
    method, num_steps = captum_class(score), FIRST_STEPS
    # Steps at once: as many padded tokens as texts are encoded by.
    at_once = max(1, encoder.config.token_budget // len(spans))
    while True:
        found_1PH = method.attribute(
            embeds_1PH, baseline_1PH, n_steps=num_steps, method="gausslegendre", internal_batch_size=at_once
        )
        shares_P = found_1PH.detach()[0].double().sum(-1).cpu()
        residual = reached - start - float(shares_P.sum())
        complete = abs(residual) <= tolerance * max(1.0, abs(reached - start))
        if complete or 2 * num_steps > most_steps:
            break
        num_steps *= 2
    words = [
        WordEvidence(text=subject.text[low:high], start=low, end=high, attribution=float(shares_P[places].sum()))
        for (low, high), places in words_of(subject.text, spans)
    ]
    return WordAttribution(
        words=tuple(words),
        score=reached,
        baseline_score=start,
        residual=residual,
        num_steps=num_steps,
        complete=complete,
    )


def _integrated_gradients() -> Any:
    """Return Captum's class.

    Raises:
        InputError: if it is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise InputError("words of a text are found with captum; pip install 'peftrec[explain]'") from None
    return IntegratedGradients


def _encoder(model: RecommenderModel) -> TextEncoder:
    if model.text_encoder is None:
        raise InputError("this run reads no texts (encoder.inputs: ids), so that no word of an item carries its score")
    return model.text_encoder


@torch.no_grad()
def _ends(encoder: TextEncoder, text: str) -> tuple[torch.Tensor, torch.Tensor, list[Span | None]]:
    """Return the embeddings of a text's tokens and of what takes their place (1, P, H), and the tokens' characters."""
    embedding = getattr(encoder.backbone.model, "get_input_embeddings", lambda: None)()
    if embedding is None:
        raise InputError(
            f"words cannot be explained: {encoder.backbone.base.name} does not tell which of its modules embeds tokens"
        )
    tokenizer = encoder.backbone.tokenizer
    tokens_1P = encoder.tokenize([text]).tokens_T[None].to(encoder.device)
    spans = token_spans(tokenizer, text, max_tokens=encoder.config.max_tokens, prefix=encoder.prefix)
    assert len(spans) == tokens_1P.shape[1], "these are the tokens that are encoded"
    of_text_P = torch.tensor([span is not None for span in spans], device=encoder.device)
    return embedding(tokens_1P), embedding(torch.where(of_text_P, tokenizer.pad_token_id, tokens_1P)), spans


def _scores(
    model: RecommenderModel, encoder: TextEncoder, embeds_CPH: torch.Tensor, subject: Subject, user_1D: torch.Tensor
) -> torch.Tensor:
    """Return the scores of texts of equal length, in the place of the subject's, shape (C,)."""
    num_texts, length = embeds_CPH.shape[:2]
    valid_CP = torch.ones(num_texts, length, dtype=torch.bool, device=encoder.device)
    # Of the text itself nothing is read but what its tokens are embedded as.
    nothing = ItemTexts(torch.zeros(0, dtype=torch.long), torch.zeros(1, dtype=torch.long), num_cut=0)
    rows_C = torch.arange(num_texts)
    vectors_CH = encoder(nothing, rows_C, {"embeds_CPH": embeds_CPH, "valid_CP": valid_CP})
    items_C = None if subject.index is None else torch.full((num_texts,), subject.index, device=model.device)
    items_CD = model.item_vectors(vectors_CH, items_C, subject.features_of(num_texts))
    scores_C: torch.Tensor = model.scale() * (items_CD @ user_1D[0])
    bias_C = None if items_C is None else model.item_encoder.candidate_bias(items_C)
    if bias_C is not None:
        scores_C = scores_C + bias_C
    if model.second_stage is not None:
        scores_C = model.second_stage(scores_C[:, None], user_1D.expand(num_texts, -1), items_CD[:, None])[:, 0]
    return scores_C
