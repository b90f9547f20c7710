"""The `training.augmentation` section of a recipe."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from peftrec.config import Range

Share = Annotated[float, Range(gt=0, lt=1)]
Probability = Annotated[float, Range(gt=0, le=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Keep a run of consecutive inputs, from a place drawn at random; the others and their targets are left out.

    Args:
        probability: share of the windows that are cropped.
        ratio: eta, share of a window's inputs that is kept, at least one.
    """

    probability: Probability = 0.5
    ratio: Share = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Leave out inputs drawn at random, and their targets; the others close up.

    Args:
        probability: share of the windows that are masked.
        ratio: gamma, share of a window's inputs that is left out.
    """

    probability: Probability = 0.5
    ratio: Share = 0.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReorderConfig:
    """Shuffle a run of consecutive inputs, from a place drawn at random.

    Args:
        probability: share of the windows that are reordered.
        ratio: beta, share of a window's inputs that is shuffled.
    """

    probability: Probability = 0.5
    ratio: Probability = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubstituteConfig:
    """Put items of similar texts in the place of inputs drawn at random.

    Args:
        probability: share of the windows in which inputs are replaced.
        ratio: alpha, share of a window's inputs that is replaced.
        num_neighbours: an input's substitute is drawn from so many items of the most similar texts.
    """

    probability: Probability = 0.5
    ratio: Probability = 0.2
    num_neighbours: Annotated[int, Range(ge=1)] = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """What is done to the inputs of training windows, each independently of the others and in this order.

    Args:
        crop: keep a part of them; None never crops.
        mask: leave some out; None never masks.
        reorder: shuffle some; None never reorders.
        substitute: replace some by items of similar texts; None never does.
    """

    crop: CropConfig | None = None
    mask: MaskConfig | None = None
    reorder: ReorderConfig | None = None
    substitute: SubstituteConfig | None = None

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return any(getattr(self, field.name) is not None for field in dataclasses.fields(self))
