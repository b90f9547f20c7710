"""Training steps of a recipe, watched: seconds, tokens, positions and operations of each.

Shapes: C texts of a chunk, P their padded length, B users, L places of a history.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from peftrec.benchmark.cost.flops import flop_counter
from peftrec.build import build
from peftrec.data import Dataset
from peftrec.fitting import make_trainer
from peftrec.recipe import Recipe
from peftrec.training import Trainer

WARM_STEPS: Final = 3
"""Before those that count: kernels are chosen, memory is taken, layers are compiled."""


@dataclasses.dataclass
class Steps:
    """What was seen of the steps that count.

    Args:
        seconds: of each.
        tokens: of the distinct items whose texts each encoded, with gradients.
        positions: of padded texts and histories that ran through the models.
        flops: of matrix products, forward and backward, of a step of its own behind the others.
    """

    seconds: list[float] = dataclasses.field(default_factory=list)
    tokens: list[int] = dataclasses.field(default_factory=list)
    positions: list[int] = dataclasses.field(default_factory=list)
    flops: int = 0


class WatchedTraining:
    """The training of a recipe, as far as steps are needed, with clocks and counters on them.

    Frozen epochs at the start are left out: it is the steps of the method that cost. Nothing is evaluated or kept.

    Args:
        recipe: resolved; of a model whose language model steps whenever the head does.
        dataset: of the recipe.
        num_steps: that count.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, num_steps: int) -> None:
        self.num_steps = num_steps
        total = WARM_STEPS + num_steps + 1  # operations are counted on the last one
        training = dataclasses.replace(
            recipe.training,
            num_epochs=total,
            max_steps=total,
            evaluate_every=total,
            warmup_frozen_epochs=0,
            patience=None,
            trackers=(),
        )
        silent = dataclasses.replace(recipe, training=training)
        built = build(silent, dataset)
        self.recipe, self.trainer = make_trainer(built, silent, dataset, lambda _: None, None)
        self.model = built.model
        self.steps = Steps()
        self._done, self._counter = 0, _Counter()
        self._began = 0.0
        self._tokens = self._positions = 0

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimiser steps of an epoch."""
        return self.trainer.steps_per_epoch

    def run(self, before: Callable[[], None], after: Callable[[], None]) -> Steps:
        """Take all steps.

        Args:
            before: is called before the first step.
            after: is called when the steps that are timed have ended, and before operations are counted.
        """
        trainer: Any = self.trainer
        metric = self.recipe.training.metric
        trainer.evaluate = lambda _: {metric: 0.0}
        started, stepped = trainer._epoch, trainer.stepper.step

        def epoch(*arguments: Any) -> float:
            self._clock()
            mean_loss: float = started(*arguments)
            return mean_loss

        def optimizer_step(*arguments: Any, **settings: Any) -> None:
            stepped(*arguments, **settings)
            self._step_ended(after)

        trainer._epoch, trainer.stepper.step = epoch, optimizer_step
        removals = self._watch(trainer)
        before()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # its lines tell of metrics that nobody measures here
                trainer.train()
        finally:
            self._counter.stop()
            for remove in removals:
                remove()
        self.steps.flops = self._counter.flops
        return self.steps

    def _step_ended(self, after: Callable[[], None]) -> None:
        _wait_for_device()
        seconds = time.perf_counter() - self._began
        self._done += 1
        if WARM_STEPS < self._done <= WARM_STEPS + self.num_steps:
            self.steps.seconds.append(seconds)
            self.steps.tokens.append(self._tokens)
            self.steps.positions.append(self._positions)
        if self._done == WARM_STEPS + self.num_steps:
            after()
            self._counter.start()
        self._tokens = self._positions = 0
        self._clock()

    def _clock(self) -> None:
        self._began = time.perf_counter()

    def _watch(self, trainer: Trainer) -> list[Callable[[], None]]:
        """Count tokens and positions; return what takes the counters off again."""
        model, removals = trainer.model, list[Callable[[], None]]()
        if model.user_encoder is not None:
            removals.append(model.user_encoder.register_forward_pre_hook(self._count_history).remove)
        for encoder in model.text_encoders().values():
            removals.append(encoder.register_forward_pre_hook(self._count_chunk, with_kwargs=True).remove)
        catalogue: Any = model.catalogue_text
        if catalogue is not None and not catalogue.encoder.method.pooled_states:
            encode = catalogue.training_vectors

            def training_vectors(items: torch.Tensor, **settings: Any) -> Any:
                self._tokens += int(catalogue.tokenized.lengths[items.cpu()].sum())
                return encode(items, **settings)

            catalogue.training_vectors = training_vectors
            removals.append(lambda: delattr(catalogue, "training_vectors"))
        return removals

    def _count_history(self, _: Any, arguments: tuple[Any, ...]) -> None:
        self._positions += arguments[1].numel()  # which of the (B, L) places are events

    def _count_chunk(self, encoder: Any, arguments: tuple[Any, ...], settings: dict[str, Any]) -> None:
        texts, items_C, *rest = arguments
        loaded = settings.get("loaded", rest[0] if rest else None)
        if encoder.method.pooled_states:
            self._positions += len(items_C) * len(encoder.method.pooled_states)
        elif loaded is not None:
            self._positions += loaded["valid_CP"].numel()
        else:
            self._positions += len(items_C) * int(texts.lengths[items_C].max())


class _Counter:
    """Counts operations between `start` and `stop`."""

    def __init__(self) -> None:
        self.flops = 0
        self._mode: FlopCounterMode | None = None

    def start(self) -> None:
        self._mode = flop_counter()
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self.flops, self._mode = int(self._mode.get_total_flops()), None


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
