"""What is done against bias beside any loss: targets weighed by propensity, penalties on popularity and on gaps.

Shapes: P positions, C candidates, N items of the catalogue, G groups.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.losses.debias_config import DebiasConfig, GroupPenaltyConfig
from peftrec.losses.exposure import expected_exposure
from peftrec.losses.loss import LossInputs
from peftrec.losses.propensity import ItemPropensities


@dataclasses.dataclass(frozen=True)
class ItemGroups:
    """Which group each item belongs to.

    Args:
        names: of the G groups, for people.
        group_N: place of each item's group among them.
        unknown: the group of items of which nothing is known, or None.
    """

    names: tuple[str, ...]
    group_N: NDArray[np.int64]
    unknown: int | None = None


class Debias:
    """What a step adds to its loss.

    With the expected exposure e of the candidates (see `expected_exposure`):

    popularity = sum_c e_c log n_c - mean_p log n_target(p), with n the training events of an item: how much more
    popular what is shown is than what people take, as a ratio's logarithm. It goes on falling below 0 as the weight
    rises.

    groups = sum_g (sum_{c in g} e_c - part_g)^2, with e over the positions of one batch.

    penalty = weight_popularity * popularity + weight_groups * groups

    Penalties are of what is shown, and count every position alike; `target_weights_N` are for the loss.

    Args:
        config: the section.
        item_counts_N: training events of every item.
        groups: of every item, where there is a penalty on groups.
        propensities: of every item, where targets are weighed by them.
    Raises:
        InputError: if there is a penalty on groups, but all items that have training events are of one.
    Source:
        Abdollahpouri, Burke and Mobasher (2017), Controlling Popularity Bias in Learning-to-Rank Recommendation, for a
        regulariser beside the loss; its term, which looks at pairs of items in lists, is replaced by the expected
        log-popularity. Singh and Joachims (2018), Fairness of Exposure in Rankings, for parts of exposure, and Diaz et
        al. (2020), Evaluating Stochastic Rankings with Expected Exposure, eq. 2, for the squared distance from them.
    """

    def __init__(
        self,
        config: DebiasConfig,
        item_counts_N: NDArray[np.int64],
        groups: ItemGroups | None = None,
        propensities: ItemPropensities | None = None,
    ) -> None:
        assert (config.groups is None) == (groups is None), "a penalty on groups needs groups, and only that"
        assert (config.propensity is None) == (propensities is None), "weights need propensities, and only they"
        self.config, self._item_counts_N, self._propensities = config, item_counts_N, propensities
        # How much a target of each item counts in the loss; None counts all alike.
        self.target_weights_N = None if propensities is None else propensities.target_weights(item_counts_N)
        # Items without training events are no candidates; their place is never read.
        self._log_count_N = torch.from_numpy(np.log(np.maximum(item_counts_N, 1))).float()
        if config.groups is not None and groups is not None:
            self._group_N = torch.from_numpy(groups.group_N)
            self._part_G = torch.from_numpy(group_parts(config.groups, groups, item_counts_N)).float()

    def describe(self) -> list[str]:
        """Return lines for people."""
        return [] if self._propensities is None else [self._propensities.describe(self._item_counts_N)]

    def penalty(self, inputs: LossInputs, items_C: torch.Tensor) -> torch.Tensor:
        """Return the penalty of one step, a scalar.

        Args:
            inputs: what the loss sees.
            items_C: which items of the catalogue the candidates are.
        Raises:
            ValueError: if there is no position.
        """
        exposure_C = expected_exposure(inputs, max_logits=self.config.max_logits)
        result = exposure_C.new_zeros(())
        if self.config.popularity is not None:
            log_count_C = self._log_count_N.to(exposure_C)[items_C]
            taken = log_count_C[inputs.targets_P].mean()
            result = result + self.config.popularity.weight * (exposure_C @ log_count_C - taken)
        if self.config.groups is not None:
            part_G = self._part_G.to(exposure_C)
            shown_G = torch.zeros_like(part_G).index_add(0, self._group_N.to(items_C.device)[items_C], exposure_C)
            result = result + self.config.groups.weight * (shown_G - part_G).square().sum()
        return result


def popularity_groups(item_counts_N: NDArray[np.int64], num_bins: int) -> ItemGroups:
    """Group items by their training events, rare ones first.

    Bins are cut at quantiles of the items that have training events, so that each holds about as many; items with
    equally many events share a bin, and bins that this leaves empty are left out. Items without events are in the
    first.

    Args:
        item_counts_N: training events of every item.
        num_bins: how many bins there are at most, from 2.
    """
    counts = item_counts_N[item_counts_N > 0]
    # The lowest count of each bin but the first.
    edges = np.unique(np.quantile(counts, np.arange(1, num_bins) / num_bins, method="higher"))
    edges = edges[edges > counts.min()]
    starts = [int(counts.min()), *edges.astype(int).tolist()]
    names = [f"{low} to {high - 1} events" for low, high in itertools.pairwise(starts)]
    group_N = np.searchsorted(edges, item_counts_N, side="right").astype(np.int64)
    return ItemGroups((*names, f"{starts[-1]} events and more"), group_N)


def group_parts(
    config: GroupPenaltyConfig, groups: ItemGroups, item_counts_N: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the part of exposure that each group is to have, shape (G,); the parts sum to 1.

    Only items that have training events count. A group that has none of them has no part, whatever the rule.

    Args:
        config: says what a part is.
        groups: of every item.
        item_counts_N: training events of every item.
    Raises:
        InputError: if all items that have training events are of one group.
    """
    num_groups = len(groups.names)
    items_G = np.bincount(groups.group_N[item_counts_N > 0], minlength=num_groups).astype(np.float64)
    events_G = np.bincount(groups.group_N, item_counts_N, minlength=num_groups)
    if (items_G > 0).sum() < 2:
        name = groups.names[int(items_G.argmax())]
        raise InputError(f"debias.groups: all items that have training events are of one group ({name!r})")
    training_G: NDArray[np.float64] = events_G / events_G.sum()
    if config.part == "training":
        return training_G
    weight_G = items_G if config.part == "catalogue" else (items_G > 0).astype(np.float64)
    fixed_G = np.zeros(num_groups)
    if groups.unknown is not None:
        fixed_G[groups.unknown], weight_G[groups.unknown] = training_G[groups.unknown], 0.0
    part_G: NDArray[np.float64] = fixed_G + (1 - fixed_G.sum()) * weight_G / weight_G.sum()
    return part_G
