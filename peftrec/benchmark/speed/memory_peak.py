"""Peak memory of training above imports and weights, each kind in a process of its own.

`python -m peftrec.benchmark.speed.memory_peak KIND ...` measures one and prints it as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import subprocess
import sys
from pathlib import Path

from peftrec.benchmark.speed.setting import PATHS, Setting, make_workload

_MIB = 2**20
_STATUS = Path("/proc/self/status")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryPeak:
    """Resident memory of a training process above imports, data and the bytes of the model's weights.

    Args:
        weights_mib: imports, data and weights.
        prepared_mib: added when preparation (data, caches, head) had ended.
        preparing_mib: added at most during preparation.
        training_mib: added at most during training steps.
    """

    weights_mib: float
    prepared_mib: float
    preparing_mib: float
    training_mib: float


class ResidentMemory:
    """What the process holds, and the most that it has held since `reset`.

    Linux forgets the peak when 5 is written to `clear_refs`; elsewhere the peak is that since the process began, so
    that only what rises above it is seen.
    """

    @property
    def tells_now(self) -> bool:
        """Whether the system tells what is resident now, and not only the most since the process began."""
        return _STATUS.is_file()

    def reset(self) -> bool:
        """Forget the peak, after collecting garbage; return whether the system permits that."""
        gc.collect()
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return False
        return True

    def now_mib(self) -> float:
        """Return what is resident now."""
        return self._field("VmRSS")

    def peak_mib(self) -> float:
        """Return the most that was resident since `reset`."""
        return self._field("VmHWM")

    def _field(self, name: str) -> float:
        if self.tells_now:
            for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) / 1024
        from peftrec.training.memory import peak_memory_mib

        return peak_memory_mib()


def measure_apart(
    kind: str, setting: Setting, *, users: int, micro_users: int, whole_catalogue: bool = True
) -> MemoryPeak:
    """Measure one kind of training in a process of its own.

    Args:
        kind: a path of ours, `padded_full` or `padded_lora`.
        setting: of the run.
        users: of a step.
        micro_users: users of a micro-batch; read by the padded kinds.
        whole_catalogue: False keeps only the items of the batches.
    """
    words = [kind, "--recipe", str(setting.recipe), "--users", str(users), "--micro-users", str(micro_users)]
    words += ["--history", str(setting.history), "--seed", str(setting.seed)]
    words += ["--graph-memory-mib", str(setting.graph_memory_mib), *setting.overrides]
    words += ["--whole-catalogue"] if whole_catalogue else []
    done = subprocess.run(
        [sys.executable, "-m", "peftrec.benchmark.speed.memory_peak", *words], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {kind} failed:\n{done.stderr[-2000:]}")
    return MemoryPeak(**json.loads(done.stdout.splitlines()[-1]))


def main(argv: list[str] | None = None) -> int:
    """Measure one kind in this process and print the result."""
    parser = argparse.ArgumentParser(prog="python -m peftrec.benchmark.speed.memory_peak", description=__doc__)
    parser.add_argument("kind", choices=(*PATHS, "padded_full", "padded_lora"))
    parser.add_argument("overrides", nargs="*")
    for name, start in (("history", 10), ("seed", 0), ("graph-memory-mib", 4096), ("users", 64), ("micro-users", 4)):
        parser.add_argument(f"--{name}", type=int, default=start)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--whole-catalogue", action="store_true")
    arguments = parser.parse_intermixed_args(argv)
    setting = Setting(
        recipe=arguments.recipe,
        overrides=tuple(arguments.overrides),
        history=arguments.history,
        seed=arguments.seed,
        graph_memory_mib=arguments.graph_memory_mib,
    )
    found = _measure(arguments.kind, setting, arguments)
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")
    return 0


def _measure(kind: str, setting: Setting, arguments: argparse.Namespace) -> MemoryPeak:
    from peftrec.benchmark.speed.padded import PaddedTraining
    from peftrec.benchmark.speed.step_trainer import StepTrainer
    from peftrec.data import load_dataset
    from peftrec.encoders import load_backbone

    padded = kind.startswith("padded_")
    recipe = setting.load(*PATHS["full" if kind == "padded_full" else "lora_all" if padded else kind])
    dataset = load_dataset(recipe.data)
    items = len(dataset.catalogue) if arguments.whole_catalogue else 0
    work = make_workload(dataset, recipe, users=arguments.users, number=2, seed=setting.seed, num_items=items)
    load_backbone(recipe.encoder.backbone, recipe.encoder.revision)  # and let it go: its imports stay
    memory = ResidentMemory()
    memory.reset()
    base = memory.now_mib()
    ours = None if padded else StepTrainer(recipe, work.dataset)
    theirs = PaddedTraining("full" if kind == "padded_full" else "lora", recipe, work.dataset) if padded else None
    model = ours.model if ours is not None else theirs.model if theirs is not None else None
    assert model is not None
    base += sum(parameter.nbytes for parameter in model.parameters()) / _MIB
    preparing = memory.peak_mib()
    memory.reset()
    prepared = memory.now_mib()
    for batch in work.batches:
        if ours is not None:
            ours.step(batch)
        elif theirs is not None:
            theirs.timed_step(batch, arguments.micro_users)
    return MemoryPeak(
        weights_mib=base,
        prepared_mib=prepared - base,
        preparing_mib=preparing - base,
        training_mib=memory.peak_mib() - base,
    )


if __name__ == "__main__":
    sys.exit(main())
