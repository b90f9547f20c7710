"""When a training is saved, and when it ends because it was asked to."""

from __future__ import annotations

from peftrec.launch import Ranks
from peftrec.training.out_of_memory import MemoryGuard
from peftrec.training.selection import Selection
from peftrec.training.snapshot import Snapshots
from peftrec.training.state import TrainingState
from peftrec.training.stop_request import StopRequest, TrainingStopped
from peftrec.training.text_table import TextTable


class Saving:
    """Saves at the end of epochs, every so many steps, and where SIGTERM asks any of the processes to end.

    While gradients wait for a step of the language model there is nothing that could be saved: the next such step is.

    Args:
        snapshots: write it.
        selection: has the best weights.
        text_table: knows whether gradients wait.
        memory: knows what was halved.
        ranks: the processes.
        every: steps from one to the next within an epoch; None saves at the end of epochs alone.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        selection: Selection,
        text_table: TextTable,
        memory: MemoryGuard,
        ranks: Ranks,
        *,
        every: int | None,
    ) -> None:
        self.snapshots, self.selection, self.text_table = snapshots, selection, text_table
        self.memory, self.ranks, self.every = memory, ranks, every
        self.stop = StopRequest()
        self._stops = self._due = False

    def go_on(self) -> TrainingState:
        """Put the training back where it was saved, and return how far that is."""
        state, self.selection.best = self.snapshots.load()
        self.memory.go_on(state.halvings)
        return state

    def total(self, loss: float) -> float:
        """Return the loss of all processes together, and hear by the way whether one of them was asked to end."""
        loss, stops = self.ranks.total([loss, float(self.stop.asked)])
        self._stops = self._stops or stops > 0
        return loss

    def step_ended(self, state: TrainingState, seconds: float) -> None:
        """Save where that is due.

        Args:
            state: after the step.
            seconds: that the epoch has taken so far.
        Raises:
            TrainingStopped: where that was asked for.
        """
        self._due = self._due or (self.every is not None and state.step % self.every == 0)
        if not self.text_table.idle or not (self._due or self._stops):
            return
        state.epoch_seconds = seconds
        self._save(state)
        if self._stops:
            raise TrainingStopped(state.step)

    def epoch_ended(self, state: TrainingState) -> None:
        """Save.

        Raises:
            TrainingStopped: where that was asked for.
        """
        self._save(state)
        self.total(0.0)
        if self._stops:
            raise TrainingStopped(state.step)

    def _save(self, state: TrainingState) -> None:
        state.halvings, self._due = self.memory.halvings, False
        self.snapshots.save(state, self.selection.best)
