"""Four processes, one of which hangs: what do the others say?

torchrun --nproc_per_node 4 roll_probe.py RANK
"""

from __future__ import annotations

import sys
import time


def main() -> None:
    """Meet once; then one does not come."""
    from peftrec.config import InputError
    from peftrec.launch import launched

    ranks = launched(timeout_seconds=5.0)
    assert ranks.total([1.0]) == [float(ranks.count)], f"{ranks.count} processes were started"
    if ranks.index == int(sys.argv[1]):
        time.sleep(40)
    try:
        ranks.total([1.0])
    except InputError as error:
        sys.stdout.write(f"process {ranks.index} says: {error}\n")
        sys.stdout.flush()
        time.sleep(7)  # torchrun ends the others when one has ended
        sys.exit(1)


if __name__ == "__main__":
    main()
