"""The roll of a study: which trials count, which have lost their process, and which values come again.

All of it stands in attributes of trials in the storage, and is found there anew each time: a process that ends between
two steps leaves nothing undone, and of two that do the same at once one is found to be surplus.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from peftrec.tuning.axis import Axis
from peftrec.tuning.liveness import is_abandoned, process_mark

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

# Values whose process was killed so often are not tried again: they may be what kills it.
MAX_KILLS: Final = 3
REASON: Final = "reason"
_MARK, _BEAT = "process", "alive"
# A trial that stands for a point of the grid, or for the values of a trial that was lost.
_SLOT = "slot"
# How many processes were killed while they ran these values.
_KILLS = "kills"
# The values of this trial are tried again in another one; it does not count.
_REPLACED = "replaced"
# Begun although another process had just taken the slot or the last place: nothing was run, and it does not count.
_SURPLUS = "surplus"


@dataclasses.dataclass(frozen=True)
class Roll:
    """The trials of a study, as its storage has them now.

    Args:
        study: of Optuna.
        storage: of the study.
        num_trials: that there shall be.
        points: of the grid, as Optuna stores values; None where values are drawn.
    """

    study: optuna.Study
    storage: optuna.storages.BaseStorage
    num_trials: int
    points: Sequence[dict[str, Any]] | None

    def begun(self) -> list[FrozenTrial]:
        """Return the trials that were begun and are not surplus, in order of their numbers."""
        return [row for row in self._rows() if not _waits(row) and not row.user_attrs.get(_SURPLUS)]

    def used_up(self) -> bool:
        """Whether all trials that there shall be have been begun."""
        rows = self._rows()
        nothing_left = self.points is not None and not any(map(_waits, rows))
        return sum(map(_counts, rows)) >= self.num_trials or nothing_left

    def is_surplus(self, number: int) -> bool:
        """Whether another trial has the place of this one; of two that were begun at once, the first keeps it."""
        rows = self._rows()
        slot = next(row for row in rows if row.number == number).user_attrs.get(_SLOT)
        before = [row for row in rows if row.number < number]
        if slot is not None:
            return any(_stands(row) and row.user_attrs.get(_SLOT) == slot for row in before)
        return self.points is not None or sum(map(_counts, before)) >= self.num_trials

    def sign(self, asked: optuna.Trial) -> None:
        """Write which process runs a trial; that it began is the first sign of life."""
        asked.set_user_attr(_MARK, process_mark())

    def dismiss(self, asked: optuna.Trial) -> None:
        """End a trial that is surplus."""
        from optuna.trial import TrialState

        asked.set_user_attr(_SURPLUS, True)
        self.study.tell(asked, state=TrialState.FAIL)

    def give_up_abandoned(self) -> None:
        """Mark trials as failed whose process is gone."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        for row in self._rows():
            if row.state != TrialState.RUNNING:
                continue
            mark = row.user_attrs.get(_MARK)
            assert row.datetime_start is not None, "a running trial has begun"
            if not is_abandoned(mark, row.user_attrs.get(_BEAT, row.datetime_start.timestamp())):
                continue
            kills = row.user_attrs.get(_KILLS, 0) + 1
            again = kills < MAX_KILLS
            process = "its process" if mark is None else f"process {mark['pid']} on {mark['machine'].split()[0]}"
            then = "its values are tried again" if again else f"so did {kills - 1} others with its values"
            attributes = {
                _KILLS: kills,
                _REPLACED: again,
                REASON: f"{process} ended without a word (killed, perhaps for want of memory); {then}",
            }
            try:
                for name, value in attributes.items():
                    self.storage.set_trial_user_attr(row._trial_id, name, value)
                self.storage.set_trial_state_values(row._trial_id, state=TrialState.FAIL)
            except UpdateFinishedTrialError:
                continue  # another process was quicker

    def fill_queue(self) -> None:
        """Queue the points of the grid that nobody has taken, and the values of trials that are to be tried again."""
        rows = self._rows()
        replaced = [row for row in rows if _is_replaced(row)]
        taken = {row.user_attrs.get(_SLOT) for row in rows if _stands(row)}
        if self.points is None:
            queue = {_again(row): row.params for row in replaced}
            kills = {_again(row): row.user_attrs.get(_KILLS, 0) for row in replaced}
            # What was tried again and lost again comes again as that.
            taken |= {row.user_attrs.get(_SLOT) for row in replaced}
        else:
            queue = {f"point {place}": point for place, point in enumerate(self.points)}
            kills = {str(row.user_attrs.get(_SLOT)): row.user_attrs.get(_KILLS, 0) for row in replaced}
        for slot, params in queue.items():
            if slot not in taken:
                self.study.enqueue_trial(params, user_attrs={_SLOT: slot, _KILLS: kills.get(slot, 0)})

    def _rows(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


def beat(asked: optuna.Trial) -> None:
    """Write that a trial is alive."""
    asked.set_user_attr(_BEAT, time.time())


def mark_replaced(asked: optuna.Trial) -> None:
    """Write that the values of a trial are to be tried again."""
    asked.set_user_attr(_REPLACED, True)


def stored_point(axes: Sequence[Axis], point: dict[str, Any]) -> dict[str, Any]:
    """Return a point of the grid as Optuna stores its values."""
    return {axis.key: axis.stored(point[axis.key]) for axis in axes}


def _again(row: FrozenTrial) -> str:
    return f"again {row.number}"


def _waits(row: FrozenTrial) -> bool:
    return row.state.name == "WAITING"


def _stands(row: FrozenTrial) -> bool:
    """Whether a trial is the one that stands for its values."""
    return not (row.user_attrs.get(_SURPLUS) or _is_replaced(row))


def _is_replaced(row: FrozenTrial) -> bool:
    # One that was taken for dead may have ended well while it was being marked.
    return row.state.name == "FAIL" and bool(row.user_attrs.get(_REPLACED))


def _counts(row: FrozenTrial) -> bool:
    return _stands(row) and not _waits(row)
