"""The usual way: every position of every user goes through the language model, padded, in every step.

Shapes: B users, W positions (the history and the target), R = B * W rows, P padded tokens, H width of text vectors,
C distinct items, L places of a history.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.benchmark.speed.machine import undisturbed
from peftrec.build import build_model
from peftrec.data import Dataset, UserBatch
from peftrec.methods import METHODS
from peftrec.methods.peft_method import inject
from peftrec.methods.structure import name_pattern
from peftrec.methods.target import find_targets
from peftrec.models import RecommenderModel
from peftrec.recipe import Recipe
from peftrec.training.step import StepPlan, plan_step, step_inputs

Kind = Literal["lora", "full"]


class PaddedTraining:
    """A plain `transformers` model, with `peft`'s LoRA or all its weights trained, under the same head and loss.

    Texts are tokenised beforehand and padded to the limit; the places of short histories hold an empty text, which is
    encoded like all others, as in the published code of such recommenders. Gradients are accumulated over micro-batches
    of users, each with the loss over its own items, and their graphs are freed one by one.

    Args:
        kind: what trains.
        recipe: resolved; rank, targets and rates are its own.
        dataset: of the batches.
        head: our model, from which the weights of the head are taken; None fits the whitening to noise, which costs
            a step the same.
        dropout: the language model's own. Off, as in our steps, the work is the same; on, as `model.train()` leaves
            it, random numbers cost time, and attention loses its quick kernel.
    """

    def __init__(
        self,
        kind: Kind,
        recipe: Recipe,
        dataset: Dataset,
        head: RecommenderModel | None = None,
        *,
        dropout: bool = False,
    ) -> None:
        frozen = dataclasses.replace(recipe, method=METHODS.load("frozen")())
        self.item_counts = dataset.item_counts()
        self.model = build_model(frozen, dataset.catalogue.texts, torch.from_numpy(self.item_counts > 0))
        encoder = self.model.text_encoder
        assert encoder is not None
        if head is None:
            self.model.item_encoder.fit_whitening(torch.randn(2 * encoder.dim, encoder.dim))
        else:
            self.model.load_own_state({**head.head_state(), **head.id_state()})
        self.recipe, self.width = recipe, recipe.user.max_history + 1
        texts = [*(encoder.prefix + text for text in dataset.catalogue.texts), ""]
        table = encoder.backbone.tokenizer(
            texts, padding="max_length", truncation=True, max_length=recipe.encoder.max_tokens, return_tensors="pt"
        )
        self._tokens_NP, self._mask_NP = table["input_ids"], table["attention_mask"]
        self._pool = encoder.pooling
        self.language_model: Any = encoder.backbone.model
        if kind == "lora":
            self.language_model = inject(self.language_model, lora_config(self.language_model, recipe))
        else:
            self.language_model.requires_grad_(True)
        self.model.train()
        self.language_model.train(dropout)
        trained = [parameter for parameter in self.language_model.parameters() if parameter.requires_grad]
        settings = recipe.optimizer
        assert settings.learning_rate is not None
        self.optimizer = torch.optim.AdamW(
            [
                {"params": trained, "lr": settings.learning_rate},
                {"params": self.model.head_parameters(), "lr": settings.head_learning_rate},
                {"params": self.model.id_parameters(), "lr": settings.id_learning_rate or settings.head_learning_rate},
            ],
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def micro_batches(self, batch: UserBatch, users: int) -> list[tuple[UserBatch, StepPlan]]:
        """Cut a batch into micro-batches; which rows hold which items is found beforehand, outside of the step."""
        parts = [batch.rows(start, start + users) for start in range(0, len(batch), users)]
        return [(part, plan_step(part, self.recipe.loss, self.item_counts)) for part in parts]

    def loss(self, batch: UserBatch, plan: StepPlan, encode: Callable[..., torch.Tensor] | None = None) -> torch.Tensor:
        """Return the mean loss over the positions of a micro-batch.

        Args:
            batch: users of the micro-batch.
            plan: of it.
            encode: maps items of rows (R,) to text vectors (R, H); None runs all rows in one batch.
        """
        items_BW = _rows(batch, self.width)
        items_R = items_BW.reshape(-1)
        text_RH = (encode or self.encode)(torch.from_numpy(items_R))
        distinct, first = np.unique(items_R, return_index=True)
        first_C = torch.from_numpy(first[distinct >= 0])
        rows = np.arange(len(items_R)).reshape(items_BW.shape)[:, self.width - 1 - batch.inputs.shape[1] : -1]
        by_row = dataclasses.replace(
            plan,
            # Rows of padding are no input and no candidate: whose id vector they take does not matter.
            items_C=torch.from_numpy(np.maximum(items_R, 0)),
            inputs_BL=torch.from_numpy(np.where(batch.inputs >= 0, rows, -1)),
        )
        inputs = step_inputs(self.model, by_row, text_RH)
        # Every history reads its own rows; a candidate is the first row that holds it.
        return self.recipe.loss.compute(dataclasses.replace(inputs, candidates_CD=inputs.candidates_CD[first_C]))

    def encode(self, items_R: torch.Tensor) -> torch.Tensor:
        """Run rows through the language model, padded to the limit, and pool them, shape (R, H)."""
        tokens_RP, mask_RP = self._tokens_NP[items_R], self._mask_NP[items_R]
        states_RPH = self.language_model(input_ids=tokens_RP, attention_mask=mask_RP).last_hidden_state
        if self._pool == "last":
            return states_RPH[torch.arange(len(items_R)), mask_RP.sum(1) - 1]  # type: ignore[no-any-return]
        if self._pool == "cls":
            return states_RPH[:, 0]  # type: ignore[no-any-return]
        weights_RP1 = mask_RP[..., None].to(states_RPH.dtype)
        return (states_RPH * weights_RP1).sum(1) / weights_RP1.sum(1)  # type: ignore[no-any-return]

    def timed_step(self, batch: UserBatch, users: int, *, at_most: int | None = None) -> float:
        """Run one training step and return its seconds.

        Args:
            batch: of the step.
            users: of a micro-batch.
            at_most: run only so many micro-batches and count their time for all, which have the same shapes.
        """
        parts = self.micro_batches(batch, users)
        run = parts if at_most is None else parts[:at_most]
        seconds = self._accumulate(run) * len(batch) / sum(len(part) for part, _ in run)
        began = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return seconds + time.perf_counter() - began

    def seconds_a_user(self, batch: UserBatch, users: int) -> float:
        """Return the seconds of a micro-batch by its users, the better of the first two; nothing moves."""
        parts = self.micro_batches(batch.rows(0, min(len(batch), 2 * users)), users)
        seconds = min(self._accumulate([part]) / len(part[0]) for part in parts)
        self.optimizer.zero_grad(set_to_none=True)
        return seconds

    def _accumulate(self, parts: list[tuple[UserBatch, StepPlan]]) -> float:
        """Add up the gradients of micro-batches, each weighted by its share of the positions; return the seconds."""
        positions = sum(plan.num_positions for _, plan in parts)
        began = time.perf_counter()
        for part, plan in parts:
            if plan.num_positions:
                (self.loss(part, plan) * (plan.num_positions / positions)).backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - began

    def gradients(self, batch: UserBatch, rows: int = 64) -> tuple[float, dict[str, torch.Tensor]]:
        """Return the loss of the whole batch as one, and gradients of the language model by name; nothing moves.

        Args:
            batch: all of whose items are candidates.
            rows: through the model at a time.
        """
        (_, plan), *_ = self.micro_batches(batch, len(batch))
        loss = self.loss(batch, plan, lambda items_R: torch.cat([self.encode(part) for part in items_R.split(rows)]))
        loss.backward()  # type: ignore[no-untyped-call]
        plain = self.language_model
        plain = plain.base_model.model if hasattr(plain, "peft_config") else plain
        found = {name: p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None}
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), found


def best_users(
    training: PaddedTraining, batch: UserBatch, sizes: Sequence[int], say: Callable[[str], None]
) -> tuple[int, dict[int, float]]:
    """Find how many users a micro-batch best has: seconds a user, from few, until twice more has been slower.

    Of sizes that are equally quick, within 2 %, it is the smallest one, which takes the least memory.

    Args:
        training: what is run.
        batch: whose first users are taken.
        sizes: users of a micro-batch, ascending.
        say: is handed a line for every size.
    Returns:
        The best size, and seconds a row by rows.
    """
    found: dict[int, float] = {}
    worse = 0
    for users in (size for size in sizes if size <= len(batch)):
        found[users] = undisturbed(partial(training.seconds_a_user, batch, users))
        rows = users * training.width
        say(f"  {rows} rows a micro-batch: {found[users] / training.width * 1e3:.2f} ms a row")
        worse = worse + 1 if found[users] > 1.05 * min(found.values()) else 0
        if worse == 2:
            break
    best = next(users for users, seconds in found.items() if seconds <= 1.02 * min(found.values()))
    return best, {users * training.width: seconds / training.width for users, seconds in found.items()}


def _rows(batch: UserBatch, width: int) -> NDArray[np.int64]:
    """Return the items of all positions, the target last, shape (B, W); -1 is padding."""
    items_BW = np.full((len(batch), width), -1, dtype=np.int64)
    length = batch.inputs.shape[1]
    items_BW[:, width - 1 - length : -1] = batch.inputs
    items_BW[:, -1] = batch.targets[:, -1]
    return items_BW


def lora_config(model: Any, recipe: Recipe) -> Any:
    """Return `peft`'s config of the LoRA that a recipe names, for a plain backbone: the same rank and targets."""
    from peft import LoraConfig, TaskType

    from peftrec.methods.lora import LoraConfig as OurConfig

    ours = recipe.method
    assert isinstance(ours, OurConfig), "the recipe's method is LoRA"
    return LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=ours.rank,
        lora_alpha=ours.alpha,
        lora_dropout=ours.dropout,
        target_modules=name_pattern(find_targets(model, ours.targets, ours.first_layer(model))),
    )
