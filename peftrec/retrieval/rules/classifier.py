"""Never show items whose text a classifier finds harmful."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from peftrec.config import InputError, Range
from peftrec.retrieval.recommendation import Item
from peftrec.retrieval.rules.hide_text import On
from peftrec.retrieval.rules.rule import ItemRule, Judge

_TEXTS_AT_ONCE: Final = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(ItemRule):
    """Never show items to which a text classifier of transformers gives a label.

    An item's score is the largest of those of its title and its text: a softmax over the labels, or a sigmoid where the
    classifier has one label or says that an item may have several. What is longer than the classifier reads is cut.
    Each distinct text is scored once.

    Args:
        model: folder or Hub id of a sequence classifier, with safetensors weights.
        label: one of its labels, such as `toxic`.
        threshold: items with at least this score are hidden, above 0 and at most 1.
        on: what is read, `title` and `text`.
        revision: of a Hub id.
        cache: JSON file that keeps scores beyond the process; those of other weights or another label are dropped.
        name: of the rule; None names it by kind and place.
    """

    kind: ClassVar[str] = "classifier"
    model: str
    label: str
    threshold: Annotated[float, Range(gt=0, le=1)] = 0.5
    on: tuple[On, ...] = ("text",)
    revision: str | None = None
    cache: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.on:
            raise ValueError("on: is empty; name title, text or both")

    def prepare(self) -> Judge:
        """Load the classifier."""
        return TextClassifier(self)


class TextClassifier:
    """A classifier at work.

    Args:
        rule: that asks for it.
    Raises:
        InputError: if it cannot be loaded or has no such label, or the cache is no file of scores.
    """

    def __init__(self, rule: Classifier) -> None:
        self._rule = rule
        self._tokenizer, self._network = _loaded(rule)
        config = self._network.config
        labels = {str(name): int(place) for place, name in config.id2label.items()}
        if rule.label not in labels:
            raise InputError(f"label: {rule.model} has no label '{rule.label}'; there are {', '.join(labels)}")
        self._place = labels[rule.label]
        self._several = config.num_labels == 1 or config.problem_type == "multi_label_classification"
        self._file = None if rule.cache is None else _ScoreFile(Path(rule.cache), self._identity())
        self._scores: dict[str, float] = {} if self._file is None else self._file.read()
        self.num_scored = 0

    def judge(self, items: Sequence[Item]) -> list[str | None]:
        """Score what is not yet, and tell what is hidden."""
        keys = [[_key(getattr(item, name)) for name in self._rule.on] for item in items]
        texts = {
            key: getattr(item, name)
            for item, own in zip(items, keys, strict=True)
            for name, key in zip(self._rule.on, own, strict=True)
        }
        self._score({key: text for key, text in texts.items() if key not in self._scores})
        return [self._reason(max(self._scores[key] for key in own)) for own in keys]

    def _reason(self, score: float) -> str | None:
        return f"{self._rule.label} {score:.2f}" if score >= self._rule.threshold else None

    def _score(self, texts: dict[str, str]) -> None:
        if not texts:
            return
        # By length, so that a batch is hardly padded.
        keys = sorted(texts, key=lambda key: len(texts[key]))
        for start in range(0, len(keys), _TEXTS_AT_ONCE):
            part = keys[start : start + _TEXTS_AT_ONCE]
            self._scores.update(zip(part, self._probabilities([texts[key] for key in part]), strict=True))
        self.num_scored += len(keys)
        if self._file is not None:
            self._file.write(self._scores)

    def _probabilities(self, texts: Sequence[str]) -> list[float]:
        import torch

        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        )
        with torch.no_grad():
            logits_BL = self._network(**batch).logits.float()
        found_BL = logits_BL.sigmoid() if self._several else logits_BL.softmax(dim=1)
        scores: list[float] = found_BL[:, self._place].tolist()
        if not all(map(math.isfinite, scores)):
            raise InputError(f"{self._rule.model}: gives a score that is no number, of {texts[0][:40]!r} or its like")
        return scores

    @property
    def _length(self) -> int:
        most = getattr(self._network.config, "max_position_embeddings", None) or 512
        return int(min(self._tokenizer.model_max_length, most))

    def _identity(self) -> str:
        """Return what tells these weights and this label from others."""
        digest = hashlib.sha256(self._rule.label.encode())
        for name, value in sorted(self._network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.contiguous().flatten().numpy().tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class _ScoreFile:
    path: Path
    identity: str

    def read(self) -> dict[str, float]:
        if not self.path.is_file():
            if not self.path.parent.is_dir():
                raise InputError(f"cache: there is no folder {self.path.parent}")
            return {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            scores = {str(key): float(score) for key, score in content["scores"].items()}
            return scores if content["classifier"] == self.identity else {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"cache: {self.path} is no file of scores; name another, or delete it") from None

    def write(self, scores: dict[str, float]) -> None:
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps({"classifier": self.identity, "scores": scores}), encoding="utf-8")
        partial.replace(self.path)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _loaded(rule: Classifier) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(rule.model, revision=rule.revision)
        network = AutoModelForSequenceClassification.from_pretrained(
            rule.model, revision=rule.revision, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise InputError(f"model: {rule.model} is no text classifier that can be loaded ({str(error)[:200]})") from None
    return tokenizer, network.eval()
