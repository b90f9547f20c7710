"""How much time lies between two events, in buckets.

Shapes: B users, L places of a history, A heads.
"""

from __future__ import annotations

import torch

NUM_BUCKETS = 32
# Bucket 0 holds less than a second, bucket b from 2^(b-1) up to 2^b seconds, the last one 2^30 seconds (34 years) on.
_EDGES_MS = tuple(1000 * 2**power for power in range(NUM_BUCKETS - 1))


def interval_buckets(times_BL: torch.Tensor) -> torch.Tensor:
    """Return the bucket of the time from event j to event l at [b, l, j], shape (B, L, L).

    bucket = 0 below one second (and where j is the later one), else min(31, 1 + floor(log2(seconds))). A minute is in
    bucket 6, an hour in 12, a day in 17, a year in 25. Differences are taken in whole milliseconds: as 32-bit floats,
    times since 1970 would be two minutes apart at the least.

    Args:
        times_BL: int64 milliseconds; what stands at padded places gives buckets that mean nothing.
    """
    assert times_BL.dtype == torch.int64, f"times are whole milliseconds, got {times_BL.dtype}"
    edges = torch.tensor(_EDGES_MS, device=times_BL.device)
    return torch.bucketize(times_BL[:, :, None] - times_BL[:, None, :], edges, right=True)
