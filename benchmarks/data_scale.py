"""How long it takes from Parquet files to training windows, and how much memory, for growing numbers of interactions.

    python benchmarks/data_scale.py                     # 1.25, 2.5 and 5 million interactions through data.kind: tables
    python benchmarks/data_scale.py --kind datasets     # the same files through the library `datasets`, streamed

Every size runs in a process of its own, so that its peak memory is its own. One line of JSON a size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (1_250_000, 2_500_000, 5_000_000)
EVENTS_PER_USER = 20
ITEMS = 100_000
HISTORY = 50


def write_files(folder: Path, size: int) -> None:
    """Interactions of `size / 20` users with 100,000 items, some far more popular than others, in random order."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(0)
    item = np.minimum((ITEMS * random.random(size) ** 2).astype(int), ITEMS - 1)
    events = pl.DataFrame(
        {
            "user_id": random.integers(0, size // EVENTS_PER_USER, size),
            "item_id": item,
            "timestamp": random.integers(1_500_000_000, 1_600_000_000, size),
        }
    )
    named = (pl.format("user{}", "user_id").alias("user_id"), pl.format("B0{}", "item_id").alias("item_id"))
    events.with_columns(named).write_parquet(folder / "interactions.parquet")
    items = pl.DataFrame({"number": np.arange(ITEMS)}).select(
        pl.format("B0{}", "number").alias("item_id"),
        pl.format("Product number {} with a title of some length", "number").alias("title"),
        pl.lit("Things").alias("category"),
    )
    items.write_parquet(folder / "items.parquet")


def measure(folder: Path, kind: str) -> dict[str, float]:
    """Load, split, cut into windows and go once through all batches of an epoch."""
    from peftrec.data import TrainingWindows, load_dataset
    from peftrec.data.sources.datasets import DatasetsConfig, DatasetTable
    from peftrec.data.sources.tables import TablesConfig

    given = {"root": str(folder), "template": "{title}. {category}"}
    files = ("interactions.parquet", "items.parquet")
    tables = [DatasetTable(data_files=file) for file in files]
    config = (
        TablesConfig(interactions=files[0], items=files[1], **given)
        if kind == "tables"
        else DatasetsConfig(path=".", streaming=True, interactions=tables[0], items=tables[1], **given)
    )
    start, cpu = time.perf_counter(), time.process_time()
    dataset = load_dataset(config)
    loaded = time.perf_counter()
    windows = TrainingWindows(dataset, HISTORY)
    targets = sum(int((batch.targets >= 0).sum()) for batch in windows.epoch(0, 0, 256))
    assert targets == windows.num_targets
    return {
        "interactions": len(dataset.sequences.items),
        "load_seconds": round(loaded - start, 2),
        "epoch_seconds": round(time.perf_counter() - loaded, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Measure every size, or one folder that another call wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--kind", choices=("tables", "datasets"), default="tables")
    parser.add_argument("--folder", type=Path, help="measure what lies here, in this process")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        print(json.dumps(measure(arguments.folder, arguments.kind)), flush=True)
        return
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            write_files(Path(name), size)
            again = [sys.executable, __file__, "--folder", name, "--kind", arguments.kind]
            subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
