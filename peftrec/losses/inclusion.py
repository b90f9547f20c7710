"""How likely an item is to be among the candidates of a step."""

from __future__ import annotations

import torch


def log_inclusion_probability(frequencies_C: torch.Tensor, num_draws: int) -> torch.Tensor:
    """Return log(1 - (1 - q)^n), the log-probability that an item is drawn at least once in n draws.

    Computed as log(-expm1(n log1p(-q))), which keeps its precision for small q.

    Args:
        frequencies_C: q, each in (0, 1].
        num_draws: n, at least 1.
    """
    return log_complement(log_missed_probability(frequencies_C, num_draws))


def log_missed_probability(frequencies_C: torch.Tensor, num_draws: int) -> torch.Tensor:
    """Return n log(1 - q), the log-probability that an item is in none of n draws.

    Those of draws that know nothing of each other add up.

    Args:
        frequencies_C: q, each in [0, 1].
        num_draws: n, at least 0.
    """
    return num_draws * torch.log1p(-frequencies_C.clamp(max=1 - 1e-7))


def log_complement(log_missed_C: torch.Tensor) -> torch.Tensor:
    """Return log(1 - exp(x)): from the log-probability of being missed to that of being there.

    Args:
        log_missed_C: x, each below 0.
    """
    return torch.log(-torch.expm1(log_missed_C))
