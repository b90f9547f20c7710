"""Running out of memory: what it looks like, and what to lower."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import torch

from peftrec.config import InputError
from peftrec.encoders import TextEncoder
from peftrec.launch import Ranks
from peftrec.models import RecommenderModel
from peftrec.training.config import TrainingConfig
from peftrec.training.text_table import TextTable

T = TypeVar("T")
# After that it makes no more code in this process, so that nothing can be taken again.
_ONEDNN: Final = "could not create a primitive"
# What torch, CUDA, oneDNN, NumPy, the C++ library and the system say when memory is not to be had.
NO_MEMORY: Final = (
    "out of memory", "not enough memory", "cannot allocate memory", "can't allocate memory", "unable to allocate",
    "bad_alloc", _ONEDNN,
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not to be had, on the host or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


class MemoryGuard:
    """Says what to lower when a step runs out of memory, or lowers it and takes the step again.

    Args:
        model: whose encoders read texts in chunks of `encoder.token_budget` tokens.
        text_table: holds graphs of `training.graph_memory_mib`.
        config: the `training` section.
        ranks: several processes cannot take a step again, since the others wait in the middle of theirs.
    """

    def __init__(self, model: RecommenderModel, text_table: TextTable, config: TrainingConfig, ranks: Ranks) -> None:
        self.model, self.text_table = model, text_table
        self.halves = config.on_out_of_memory == "halve" and ranks.alone
        self.halvings = 0

    def go_on(self, halvings: int) -> None:
        """Halve as often as an earlier part of the run has."""
        while self.halvings < halvings and self._halve():
            pass

    @contextlib.contextmanager
    def told(self, number: int) -> Iterator[None]:
        """Say what to lower where memory runs out in something that is not taken again.

        Args:
            number: of the step, from 1.
        Raises:
            InputError: saying what to lower.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._told(error, number) from error

    def guarded(self, number: int, step: Callable[[], T]) -> T:
        """Take a step; where memory runs out and that is wanted, halve chunks and graphs until it fits.

        A step that is taken again draws what it drew before.

        Args:
            number: of the step, from 1.
            step: adds up gradients; may be called again.
        Raises:
            InputError: saying what to lower.
        """
        before = _random_states(self.model.device) if self.halves and self.text_table.idle else None
        while True:
            try:
                return step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                told, once_more = self._told(error, number), before is not None and _ONEDNN not in str(error)
            # Outside the handler, whose traceback holds the tensors of the step.
            had = self._budget
            if before is None or not once_more or not self._halve():
                raise told
            warnings.warn(
                f"step {number} ran out of memory in chunks of {had} tokens; it is taken again with "
                f"{self._budget} tokens and {self.text_table.graph_bytes // 2**20} MiB of graphs",
                stacklevel=2,
            )
            self._clear()
            _set_random_states(before, self.model.device)

    @property
    def _encoders(self) -> list[TextEncoder]:
        return list(self.model.text_encoders().values())

    @property
    def _budget(self) -> int:
        return max((one.config.token_budget for one in self._encoders), default=0)

    def _halve(self) -> bool:
        """Halve chunks and graphs, and return whether that was possible."""
        graphs = self.text_table.graph_bytes // 2
        budgets = [max(one.config.max_tokens, one.config.token_budget // 2) for one in self._encoders]
        now = [one.config.token_budget for one in self._encoders]
        if budgets == now and graphs < 2**20:
            return False
        self.text_table.graph_bytes = graphs if graphs >= 2**20 else 0
        for encoder, budget in zip(self._encoders, budgets, strict=True):
            encoder.config = dataclasses.replace(encoder.config, token_budget=budget)
        self.halvings += 1
        return True

    def _clear(self) -> None:
        self.text_table.forget()
        for parameter in self.model.parameters():
            parameter.grad = None
        gc.collect()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _told(self, error: BaseException, number: int) -> InputError:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return InputError(
            f"step {number} ran out of memory ({reason}). Lower training.graph_memory_mib "
            f"(now {self.text_table.graph_bytes // 2**20}), encoder.token_budget (now {self._budget}), or "
            f"training.batch_users, with more training.accumulation_steps; training.on_out_of_memory=halve lowers the "
            f"first two by itself, in one process. Checkpoints of earlier steps are kept"
        )


def _random_states(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_states(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
