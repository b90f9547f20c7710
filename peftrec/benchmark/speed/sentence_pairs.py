"""The usual way with sentence-transformers: its own trainer on pairs of (text of a history, text of the next item)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from peftrec.benchmark.speed.machine import undisturbed
from peftrec.benchmark.speed.padded import lora_config
from peftrec.data import Dataset, UserBatch
from peftrec.encoders import TextEncoder, load_backbone
from peftrec.encoders.backbone import quiet_transformers
from peftrec.recipe import Recipe

Loss = Literal["ranking", "cached_ranking"]
# What a SentenceTransformer of the MiniLM kind cuts texts at.
MAX_HISTORY_TOKENS = 256


def cut_texts(encoder: TextEncoder, texts: Sequence[str]) -> list[str]:
    """Return texts as far as our encoder reads them, so that none is longer for the other.

    Args:
        encoder: ours; says how many tokens it reads.
        texts: of items.
    """
    limit = encoder.config.max_tokens
    found = encoder.backbone.tokenizer(list(texts), truncation=True, max_length=limit, return_offsets_mapping=True)
    return [text[: max(end for _, end in places)] for text, places in zip(texts, found["offset_mapping"], strict=True)]


def history_pairs(batch: UserBatch, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return a pair for every position of a batch that has a next item.

    The history is the texts of all its events, the newest first, so that what is cut off is the oldest.

    Args:
        batch: users.
        texts: one an item.
    """
    pairs = []
    for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        for place, target in enumerate(targets):
            if target >= 0:
                history = [texts[item] for item in reversed(inputs[: place + 1]) if item >= 0]
                pairs.append((". ".join(history), texts[target]))
    return pairs


def sentence_transformer(encoder: TextEncoder, max_tokens: int, *, lora: Recipe | None = None) -> Any:
    """Return a SentenceTransformer of the same backbone with mean pooling, not normalised, its dropout off as ours is.

    Args:
        encoder: whose backbone is loaded anew.
        max_tokens: texts are cut to.
        lora: the recipe whose LoRA is put in; None leaves the backbone as it is.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    with tempfile.TemporaryDirectory() as folder:
        # What transformers itself loads, wherever the backbone came from.
        encoder.backbone.tokenizer.save_pretrained(folder)
        plain: Any = load_backbone(encoder.config.backbone, encoder.config.revision).model
        with quiet_transformers():
            for name, value in plain.config.to_dict().items():
                if "dropout" in name and isinstance(value, float):
                    setattr(plain.config, name, 0.0)
            plain.save_pretrained(folder)
            words: Any = Transformer(folder, max_seq_length=max_tokens)
    model = SentenceTransformer(modules=[words, Pooling(encoder.dim, pooling_mode="mean")], device="cpu")
    if lora is not None:
        model.add_adapter(lora_config(words.auto_model, lora))
    return model


class PairTraining:
    """LoRA through `SentenceTransformerTrainer`, a few steps at a time.

    Args:
        recipe: resolved, its method LoRA.
        dataset: of the batches.
        encoder: ours, for the backbone.
        batches: whose positions are the pairs, in an order drawn once.
        sample: every measurement trains on so many of them, the same ones, whatever the size of a batch: histories
            differ in length.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, encoder: TextEncoder, batches: Sequence[UserBatch], *, sample: int = 64
    ) -> None:
        self.recipe, self.sample = recipe, sample
        self.model = sentence_transformer(encoder, MAX_HISTORY_TOKENS, lora=recipe)
        texts = cut_texts(encoder, dataset.catalogue.texts)
        pairs = [pair for batch in batches for pair in history_pairs(batch, texts)]
        order = np.random.default_rng(recipe.training.seed).permutation(len(pairs))
        self.pairs = [pairs[place] for place in order.tolist()]

    def seconds_a_position(self, loss: Loss, batch_size: int, mini_batch: int = 32) -> float:
        """Train on the sample and return seconds a pair; one more step before it does not count.

        Args:
            loss: MultipleNegativesRankingLoss, or its cached variant.
            batch_size: pairs of a step, at most the sample.
            mini_batch: of the cached variant.
        """
        from datasets import Dataset as Rows
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
        from sentence_transformers.sentence_transformer.losses import (
            CachedMultipleNegativesRankingLoss,
            MultipleNegativesRankingLoss,
        )

        steps = max(1, min(self.sample, len(self.pairs)) // batch_size)
        # One epoch; the step that does not count is of the sample too, and so is the first of the next epoch.
        pairs = (self.pairs * -(-batch_size // len(self.pairs)))[: steps * batch_size]
        rows = Rows.from_dict({"anchor": [pair[0] for pair in pairs], "positive": [pair[1] for pair in pairs]})
        if loss == "ranking":
            objective: Any = MultipleNegativesRankingLoss(self.model)
        else:
            objective = CachedMultipleNegativesRankingLoss(self.model, mini_batch_size=mini_batch)
        from transformers import PrinterCallback

        clock = _clock()
        with tempfile.TemporaryDirectory() as folder:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=folder,
                max_steps=steps + 1,
                per_device_train_batch_size=batch_size,
                learning_rate=self.recipe.optimizer.learning_rate,
                weight_decay=self.recipe.optimizer.weight_decay,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                seed=self.recipe.training.seed,
            )
            trainer = SentenceTransformerTrainer(
                model=self.model, args=arguments, train_dataset=rows, loss=objective, callbacks=[clock]
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return float(clock.ends[-1] - clock.ends[0]) / (steps * batch_size)


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Notes when each step ends, so that loading and tokenising the next batch count too."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

    return Clock()


def best_sizes(
    training: PairTraining, sizes: Sequence[int], cached_batch: int, say: Callable[[str], None]
) -> tuple[int, int, dict[str, dict[int, float]]]:
    """Find the batch size of the plain loss and the mini-batch of the cached one with the fewest seconds a pair.

    Args:
        training: what is run.
        sizes: ascending; each search ends when the second size in a row is slower by a tenth than the best.
        cached_batch: pairs of a step of the cached loss, at least the smallest size.
        say: is handed a line for every size.
    Returns:
        Batch size, mini-batch size, and seconds a pair by loss and size.
    """
    tried: dict[Loss, dict[int, float]] = {"ranking": {}, "cached_ranking": {}}
    for loss, found in tried.items():
        worse = 0
        for size in sizes:
            batch = size if loss == "ranking" else cached_batch
            if size > batch:
                break
            found[size] = undisturbed(partial(training.seconds_a_position, loss, batch, mini_batch=size))
            say(f"  {loss}, {size} pairs at a time: {found[size] * 1e3:.1f} ms a pair")
            worse = worse + 1 if found[size] > 1.1 * min(found.values()) else 0
            if worse == 2:
                break
    plain, cached = (min(found, key=lambda size: found[size]) for found in tried.values())
    return plain, cached, {str(loss): found for loss, found in tried.items()}
