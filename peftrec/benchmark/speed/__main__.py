"""The speed benchmark: every path against the usual way of doing the same, in turns, whole training steps.

`python -m peftrec.benchmark.speed`, from the top folder of the repository (that is what `make bench-speed` runs).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peftrec.config import InputError

if TYPE_CHECKING:
    from peftrec.benchmark.speed.setting import Setting
    from peftrec.benchmark.speed.suite import Extent

RECIPE = Path("recipes/amazon_scientific/minilm_frozen_ids.yaml")
SMOKE_RECIPE = Path("recipes/ml100k/minilm_lora.yaml")
FOLDER = Path("benchmarks/results/speed")
MAX_TOKENS = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code; arguments as `--help` shows them."""
    arguments = _parser().parse_args(argv)
    # What is loaded on use comes after the arguments have been read: asking for help is quick.
    try:
        run(arguments)
    except (InputError, OSError, ValueError) as error:
        sys.stderr.write(f"speed: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("speed: interrupted; what was measured is kept\n")
        return 130
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Run what the arguments name, and print and store the results.

    Raises:
        InputError: if something else computes, a name is unknown, or two ways of the same do not agree.
    """
    import torch

    from peftrec.benchmark.speed.curve import SMOKE_AXES, Axes, measure_curves
    from peftrec.benchmark.speed.machine import BUSY, other_work
    from peftrec.benchmark.speed.report import Results, describe_run, lines
    from peftrec.benchmark.speed.suite import MEASUREMENTS, Suite

    began = time.perf_counter()
    names = MEASUREMENTS if arguments.only is None else tuple(arguments.only.split(","))
    for name in names:
        if name not in MEASUREMENTS:
            raise InputError(f"--only: there is no '{name}'; there are {', '.join(MEASUREMENTS)}")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    setting, extent = _setting(arguments)
    share = other_work()
    if share is not None and share > BUSY:
        text = f"other processes take {share:.0%} of this machine, which spoils what is measured"
        if not arguments.anyway:
            raise InputError(f"{text}; wait until they have ended, or measure --anyway")
        _say(f"WARNING: {text}")
    suite = Suite(setting, extent, _say)
    _say(f"{torch.get_num_threads()} threads; {len(suite.dataset.catalogue):,} items; {setting.recipe}")
    environment = describe_run()
    results = Results(
        arguments.output or FOLDER / f"{'smoke' if arguments.smoke else setting.recipe.parent.name}.json",
        {
            "environment": environment,
            "recipe": str(setting.recipe),
            "overrides": [word for word in setting.overrides if not word.startswith("data.root=")],
            "history": setting.history,
            "seed": setting.seed,
            "rounds": setting.rounds,
            "graph_memory_mib": setting.graph_memory_mib,
            "data_sha256": suite.dataset.content_hash(),
            "other_work_before": share,
        },
    )
    if "micro_batches" in results.blocks and (arguments.curves or "micro_batches" not in names):
        suite.take_micro_batches(results.blocks["micro_batches"])
    if arguments.curves:
        measure_curves(suite, results, results.path.with_suffix(""), SMOKE_AXES if arguments.smoke else Axes())
    else:
        suite.run(names, results.keep)
    for line in lines(results.blocks):
        sys.stdout.write(f"{line}\n")
    disturbed = [
        name for name, block in results.blocks.items() if (block.get("machine", {}).get("other_work") or 0.0) > BUSY
    ]
    if disturbed:
        _say(f"WARNING: other processes took more than {BUSY:.0%} of the machine during {', '.join(disturbed)}")
    _say(f"{results.path}; {time.perf_counter() - began:.0f} s")


def _setting(arguments: argparse.Namespace) -> tuple[Setting, Extent]:
    from peftrec.benchmark.speed.setting import Setting
    from peftrec.benchmark.speed.suite import Extent

    smoke = arguments.smoke
    overrides = [*([] if smoke else [f"encoder.max_tokens={MAX_TOKENS}"]), *arguments.override]
    setting = Setting(
        recipe=arguments.recipe or (SMOKE_RECIPE if smoke else RECIPE),
        overrides=(f"data.root={arguments.data_root}", *overrides),
        history=3 if smoke else arguments.history,
        seed=arguments.seed,
        rounds=1 if smoke else arguments.rounds,
        graph_memory_mib=arguments.graph_memory_mib,
    )
    if smoke:
        extent = Extent(
            users=(4, 8),
            micro_batches=(1, 2),
            pair_batches=(2, 4),
            cached_batch=4,
            num_pairs=8,
            encoding_batches=(8, 16),
            encoded_items=32,
            sample_users=4,
            gemm_size=256,
            whole_catalogue=False,
        )
    else:
        sizes = tuple(int(word) for word in arguments.users.split(","))
        extent = Extent(users=sizes, sample_users=None if arguments.whole else 64)
    return setting, extent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m peftrec.benchmark.speed", description=__doc__)
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="data folder (default: data)")
    parser.add_argument("--recipe", type=Path, help=f"default: {RECIPE}")
    parser.add_argument("--override", action="append", default=[], metavar="a.b=c", help="of the recipe; repeatable")
    parser.add_argument("--only", metavar="NAMES", help="measurements, by commas; others in the output are kept")
    parser.add_argument("--users", default="64,512", help="users of a batch, by commas (default: 64,512)")
    parser.add_argument("--history", type=int, default=10, help="inputs of a position (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of batches and weights (default: 0)")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--graph-memory-mib", type=int, default=4096, help="of our paths (default: 4096)")
    parser.add_argument("--whole", action="store_true", help="run all micro-batches of large padded steps")
    parser.add_argument("--curves", action="store_true", help="measure and draw cost curves instead")
    parser.add_argument("--smoke", action="store_true", help="seconds on MovieLens 100K, to see that everything runs")
    parser.add_argument("--anyway", action="store_true", help="measure though something else computes")
    parser.add_argument("--output", type=Path, help=f"JSON file; default: in {FOLDER}")
    return parser


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
