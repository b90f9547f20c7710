"""Rules at work on a catalogue: which items are hidden, from whom, and why.

Shapes: N items of the catalogue, one a row of the index.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, nearest
from peftrec.retrieval.recommendation import Item, Suppressed
from peftrec.retrieval.reranking.cap import HardCap
from peftrec.retrieval.rules.audit import AuditLog
from peftrec.retrieval.rules.hide_text import LATE
from peftrec.retrieval.rules.rule import ItemRule, Judge, ListRule
from peftrec.retrieval.rules.section import RuleFile

_SHOWN: Final = -1
_Mask = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class Verdicts:
    """What rules say of all items at one moment.

    Args:
        names: of the rules.
        rule_N: the first rule that hides an item from everybody, -1 for none.
        minors: rules that hold for some: the age from which on they do not, and what they hide.
        reasons: by rule and row.
    """

    names: tuple[str, ...]
    rule_N: NDArray[np.int16]
    minors: Mapping[int, tuple[float, _Mask]]
    reasons: Mapping[tuple[int, int], str]

    def hidden(self, age: float | None = None) -> _Mask:
        """Return which items a user may not be shown, shape (N,).

        Args:
            age: of the user; None is taken to be below every age.
        """
        hidden_N: _Mask = self.rule_N >= 0
        for minimum, mask_N in self.minors.values():
            if age is None or not age >= minimum:
                hidden_N = hidden_N | mask_N
        return hidden_N

    def why(self, row: int, age: float | None = None) -> tuple[str, str] | None:
        """Return name and reason of the rule that hides an item from a user; None where none does."""
        rule = int(self.rule_N[row])
        if rule == _SHOWN:
            holds = (
                place
                for place, (minimum, mask_N) in self.minors.items()
                if mask_N[row] and (age is None or not age >= minimum)
            )
            rule = next(holds, _SHOWN)
        return None if rule == _SHOWN else (self.names[rule], self.reasons[rule, row])


class RuleBook:
    """Rules made ready, and their verdicts on items that come and change.

    One thread changes at a time; `verdicts` is a whole state, which later changes leave alone.

    Args:
        file: of the rules.
        items: all of the catalogue.
        fields: that items have.
        source: where the rules stand, for messages.
    Raises:
        InputError: naming file and rule, if a rule reads a field that is not there, hides every item, cannot be made
            ready, or does not come to an end on a text; or if all together hide every item.
    """

    def __init__(self, file: RuleFile, items: Sequence[Item], fields: Sequence[str], source: str = "rules") -> None:
        self.file, self.names, self._source = file, file.names, source
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(self.names, 0))
        self._judges: dict[int, Judge] = {}
        for place, rule in enumerate(file.rules):
            self._check_fields(place, rule.fields, fields)
            if isinstance(rule, ItemRule):
                self._judges[place] = self._prepared(place, rule)
        nothing = np.empty(0, dtype=np.int16)
        minors = {
            place: (rule.minimum_age, np.empty(0, dtype=bool))
            for place, rule in enumerate(file.rules)
            if isinstance(rule, ItemRule) and rule.minimum_age is not None
        }
        self._verdicts = Verdicts(self.names, nothing, minors, {})
        found = self._judged(items)
        self._check_start(items, found)
        self._verdicts = self._with(np.arange(len(items)), len(items), found)
        self._log = None if file.audit is None else AuditLog(file.audit)

    @property
    def verdicts(self) -> Verdicts:
        """What the rules say now."""
        return self._verdicts

    @property
    def limits(self) -> list[tuple[str, HardCap]]:
        """Name and constraint of each rule for lists."""
        rules = zip(self.names, self.file.rules, strict=True)
        return [(name, rule.limit()) for name, rule in rules if isinstance(rule, ListRule)]

    @property
    def counts(self) -> dict[str, int]:
        """How many items each rule has kept out of lists since the start."""
        with self._lock:
            return dict(self._counts)

    def judge(self, rows: Sequence[int], items: Sequence[Item]) -> None:
        """Judge items that are new in some rows, or have changed; where rows are skipped, nothing is hidden.

        Args:
            rows: of the index; may lie beyond what there was.
            items: that stand in them now.
        Raises:
            InputError: if a rule cannot judge; then nothing has changed.
        """
        with self._lock:
            found = self._judged(items)
            length = max([len(self._verdicts.rule_N), *(row + 1 for row in rows)])
            self._verdicts = self._with(np.asarray(rows, dtype=np.int64), length, found)

    def record(self, suppressed: Sequence[Suppressed], user: str | None = None) -> None:
        """Count what a list was made without, and write it to the log.

        Args:
            suppressed: from one list.
            user: for whom; see `Audit.user_ids`.
        Raises:
            AuditUnavailable: if the log cannot be written.
        """
        if not suppressed:
            return
        with self._lock:
            self._counts.update(one.rule for one in suppressed)
        if self._log is not None:
            rows = [{"rule": one.rule, "item": one.item_id, "reason": one.reason} for one in suppressed]
            self._log.write(rows, user)

    def forget(self, user: str) -> int:
        """Take a user out of the log, and return how many lines named them.

        Raises:
            AuditUnavailable: if the log cannot be written anew.
        """
        return 0 if self._log is None else self._log.forget(user)

    def _judged(self, items: Sequence[Item]) -> dict[int, list[str | None]]:
        return {place: judge.judge(items) for place, judge in self._judges.items()} if items else {}

    def _with(self, rows: NDArray[np.int64], length: int, found: Mapping[int, Sequence[str | None]]) -> Verdicts:
        """Return the verdicts with those on some rows replaced."""
        old = self._verdicts
        rule_N = np.full(length, _SHOWN, dtype=np.int16)
        rule_N[: len(old.rule_N)] = old.rule_N
        rule_N[rows] = _SHOWN
        changed = set(rows.tolist())
        reasons = {key: reason for key, reason in old.reasons.items() if key[1] not in changed}
        minors = {}
        for place, (minimum, before_N) in old.minors.items():
            mask_N = np.zeros(length, dtype=bool)
            mask_N[: len(before_N)] = before_N
            mask_N[rows] = False
            minors[place] = (minimum, mask_N)
        for place, told in found.items():
            for row, reason in zip(rows.tolist(), told, strict=True):
                if reason is None:
                    continue
                reasons[place, row] = reason
                if place in minors:
                    minors[place][1][row] = True
                elif rule_N[row] == _SHOWN:
                    rule_N[row] = place
        return Verdicts(self.names, rule_N, minors, reasons)

    def _where(self, place: int) -> str:
        return f"{self._source}, rule {place + 1} ('{self.names[place]}')"

    def _prepared(self, place: int, rule: ItemRule) -> Judge:
        try:
            return rule.prepare()
        except InputError as error:
            raise InputError(f"{self._where(place)}: {error}") from None

    def _check_fields(self, place: int, wanted: Iterable[str], known: Sequence[str]) -> None:
        for field in wanted:
            if field not in known:
                there = f"there are {', '.join(known)}" if known else "none are kept (data.item_fields)"
                hint = nearest(field, known)
                raise InputError(f"{self._where(place)}: items have no field '{field}'.{hint} Of them {there}")

    def _check_start(self, items: Sequence[Item], found: Mapping[int, Sequence[str | None]]) -> None:
        if not items:
            return
        for place, reasons in found.items():
            if None not in reasons:
                raise InputError(f"{self._where(place)}: hides every item ({reasons[0]}, and so on)")
            if LATE in reasons:
                item = items[reasons.index(LATE)].item_id
                raise InputError(f"{self._where(place)}: takes too long on item '{item}'; write a simpler pattern")
        if found and all(any(reasons) for reasons in zip(*found.values(), strict=True)):
            raise InputError(f"{self._source}: the rules together hide every item")
