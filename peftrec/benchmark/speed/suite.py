"""The measurements of a run, each by itself, so that a run can be taken up again where it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from peftrec.benchmark.speed.agreement import compare_steps
from peftrec.benchmark.speed.alternation import alternate
from peftrec.benchmark.speed.catalogue_encoding import TOLERANCE, CatalogueEncoding, largest_difference
from peftrec.benchmark.speed.memory_peak import measure_apart
from peftrec.benchmark.speed.padded import PaddedTraining
from peftrec.benchmark.speed.path_comparison import TRAINED, PathComparison, counterparts
from peftrec.benchmark.speed.sentence_pairs import PairTraining, best_sizes, sentence_transformer
from peftrec.benchmark.speed.setting import PATHS, Setting, make_workload
from peftrec.benchmark.speed.step_trainer import StepTrainer
from peftrec.benchmark.speed.warm_start import measure_starts
from peftrec.config import InputError
from peftrec.data import Dataset, load_dataset
from peftrec.encoders import TextEncoder, load_backbone
from peftrec.methods import METHODS

MEASUREMENTS = ("agreement", "micro_batches", *PATHS, "sentence_transformers", "encoding", "memory", "warm_start")
# Paths that are measured with large batches too.
_LARGE = ("lora_all", "lora_top2", "side")
# Of graphs, where memory is to be little.
_LITTLE_MIB = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of everything is run.

    Args:
        users: sizes of batches; the first is that of all paths.
        micro_batches: users of a micro-batch that are tried.
        pair_batches: pairs of a batch, or of a mini-batch of the cached loss, that are tried with
            sentence-transformers.
        num_pairs: pairs of a measurement.
        cached_batch: pairs of a batch of the cached loss.
        encoding_batches: texts of a batch that are tried with `SentenceTransformer.encode`.
        encoded_items: texts of the catalogue that are encoded, evenly spread.
        sample_users: see `PathComparison`.
        gemm_size: see `alternate`.
        whole_catalogue: whether memory is measured with all items.
    """

    users: tuple[int, ...] = (64, 512)
    micro_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    pair_batches: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    num_pairs: int = 64
    cached_batch: int = 64
    encoding_batches: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    encoded_items: int = 4096
    sample_users: int | None = 64
    gemm_size: int = 2048
    whole_catalogue: bool = True


class Suite:
    """Runs measurements by name.

    Args:
        setting: what is measured.
        extent: how much of it.
        say: is handed lines for people.
    """

    def __init__(self, setting: Setting, extent: Extent, say: Callable[[str], None]) -> None:
        self.setting, self.extent, self.say = setting, extent, say

    @cached_property
    def dataset(self) -> Dataset:
        """The data set, whole."""
        return load_dataset(self.setting.load().data)

    @cached_property
    def comparison(self) -> PathComparison:
        """Compares paths; what it has found out about counterparts serves all measurements."""
        return PathComparison(
            self.setting,
            self.dataset,
            sizes=self.extent.micro_batches,
            sample_users=self.extent.sample_users,
            gemm_size=self.extent.gemm_size,
            say=self.say,
        )

    def run(self, names: Sequence[str], keep: Callable[[str, dict[str, Any]], None]) -> None:
        """Run measurements.

        Args:
            names: of `MEASUREMENTS`.
            keep: is handed the name of each block of results and the block, as soon as it is there.
        """
        if "agreement" in names:
            keep("agreement", self.agreement())
        if "micro_batches" in names:
            keep("micro_batches", self.micro_batches())
        for users in self.extent.users:
            paths = [path for path in PATHS if path in names]
            paths = paths if users == self.extent.users[0] else [path for path in paths if path in _LARGE]
            for path, block in (self.comparison.measure(paths, users) if paths else {}).items():
                keep(f"{path}@{users}", block)
        for name, measure in (
            ("sentence_transformers", self.sentence_transformers),
            ("encoding", self.encoding),
            ("memory", self.memory),
            ("warm_start", self.warm_start),
        ):
            if name in names:
                keep(name, measure())

    def agreement(self) -> dict[str, Any]:
        """See that our step and the padded one compute the same.

        Raises:
            InputError: if they do not.
        """
        setting, users = self.setting, self.extent.users[0]
        work = make_workload(self.dataset, setting.load(), users=users, number=1, seed=setting.seed)
        found = compare_steps(setting, work)
        self.say(f"our step and the padded one: loss differs by {found.loss:.1e}, gradients by {found.gradient:.1e}")
        if not found.agrees:
            raise InputError(f"our step and the padded one do not compute the same: {found}")
        return {"users": users, **dataclasses.asdict(found)}

    def micro_batches(self) -> dict[str, Any]:
        """Find the best micro-batch of each counterpart; other measurements take what was found."""
        setting, comparison = self.setting, self.comparison
        recipe = setting.load()
        work = make_workload(self.dataset, recipe, users=self.extent.users[0], number=1, seed=setting.seed)
        for kind, path in TRAINED.items():
            for name, dropout in counterparts(kind).items():
                training = PaddedTraining(kind, setting.load(*PATHS[path]), work.dataset, dropout=dropout)
                comparison.find_best(name, training, work.batches[0])
        return {
            "history": setting.history,
            "kinds": {name: {"rows": rows, "seconds_a_row": tried} for name, (rows, tried) in comparison.best.items()},
        }

    def take_micro_batches(self, block: Mapping[str, Any]) -> None:
        """Take what an earlier run has found, if it was for rows of the same number a user.

        Args:
            block: from `micro_batches`.
        """
        if block["history"] == self.setting.history:
            for name, found in block["kinds"].items():
                self.comparison.best[name] = (found["rows"], found["seconds_a_row"])

    def sentence_transformers(self) -> dict[str, Any]:
        """Compare LoRA on all layers with sentence-transformers' trainer on the same positions."""
        setting, users = self.setting, self.extent.users[0]
        recipe = setting.load(*PATHS["lora_all"])
        work = make_workload(self.dataset, recipe, users=users, number=setting.rounds, seed=setting.seed)
        ours = StepTrainer(recipe, work.dataset)
        encoder = ours.model.text_encoder
        assert encoder is not None
        theirs = PairTraining(recipe, work.dataset, encoder, work.batches, sample=self.extent.num_pairs)
        self.say(f"sentence-transformers: {self.extent.num_pairs} of {len(theirs.pairs)} pairs; best batch:")
        plain, mini, tried = best_sizes(theirs, self.extent.pair_batches, self.extent.cached_batch, self.say)
        cached_batch = self.extent.cached_batch

        def our_seconds(number: int) -> float:
            batch = work.batches[number]
            return ours.timed_step(batch) / max(1, int((batch.targets >= 0).sum()))

        ours.step(work.batches[0])
        turns = alternate(
            {
                "ours": our_seconds,
                "ranking": lambda _: theirs.seconds_a_position("ranking", plain),
                "cached_ranking": lambda _: theirs.seconds_a_position("cached_ranking", cached_batch, mini_batch=mini),
            },
            setting.rounds,
            # Searching has warmed theirs.
            warm_up={"ranking": lambda _: 0.0, "cached_ranking": lambda _: 0.0},
            gemm_size=self.extent.gemm_size,
            say=self.say,
        )
        sizes = {"ranking": {"batch": plain}, "cached_ranking": {"batch": cached_batch, "mini_batch": mini}}
        return {
            "users": users,
            "seconds_a_position": turns.seconds["ours"].plain(),
            "positions_per_second": 1 / turns.seconds["ours"].median,
            "against": {
                name: {
                    **size,
                    "tried": tried[name],
                    "seconds_a_position": turns.seconds[name].plain(),
                    "positions_per_second": 1 / turns.seconds[name].median,
                    "ratio": turns.speedup("ours", name).plain(),
                }
                for name, size in sizes.items()
            },
            "machine": turns.plain(),
        }

    def encoding(self) -> dict[str, Any]:
        """Compare encoding of a catalogue with `SentenceTransformer.encode`.

        Raises:
            InputError: if the vectors differ.
        """
        recipe = self.setting.load(*PATHS["frozen"])
        backbone = load_backbone(recipe.encoder.backbone, recipe.encoder.revision)
        encoder = TextEncoder(backbone, dataclasses.replace(recipe.encoder, pooling="mean"), METHODS.load("frozen")())
        texts = self.dataset.catalogue.texts
        number = min(self.extent.encoded_items, len(texts))
        places = np.linspace(0, len(texts) - 1, number).astype(int).tolist()
        other = sentence_transformer(encoder, recipe.encoder.max_tokens)
        both = CatalogueEncoding(encoder, other, [encoder.prefix + texts[place] for place in places])
        encoder.prefix = ""  # it stands before the texts already, for both
        self.say(f"encoding {number} of {len(texts)} items; best batch of SentenceTransformer.encode:")
        batch_size, tried = both.best_batch_size(self.extent.encoding_batches, self.say)
        difference = largest_difference(both.ours()[1], both.theirs(batch_size)[1])
        self.say(f"vectors differ by {difference:.1e}")
        if difference > TOLERANCE:
            raise InputError(f"vectors differ by {difference:.1e} from those of SentenceTransformer.encode")
        turns = alternate(
            {"ours": lambda _: both.ours()[0], "theirs": lambda _: both.theirs(batch_size)[0]},
            self.setting.rounds,
            warm_up={"ours": lambda _: 0.0, "theirs": lambda _: 0.0},  # comparing the vectors has done it
            gemm_size=self.extent.gemm_size,
            say=self.say,
        )
        return {
            "items": number,
            "tokens": both.num_tokens,
            "difference": difference,
            "batch_size": batch_size,
            "tried": tried,
            "seconds": turns.seconds["ours"].plain(),
            "their_seconds": turns.seconds["theirs"].plain(),
            "tokens_per_second": both.num_tokens / turns.seconds["ours"].median,
            "ratio": turns.speedup("ours", "theirs").plain(),
            "machine": turns.plain(),
        }

    def warm_start(self) -> dict[str, Any]:
        """Time from the call of `train` to the end of the first step, LoRA on the top two layers, the cache filled."""
        return measure_starts(self.setting, "lora_top2", self.extent.users[0], self.setting.rounds)

    def memory(self) -> dict[str, Any]:
        """Compare peak memory of LoRA on the top two layers with conventional full fine-tuning.

        LoRA is run twice: the first process builds the cache of the frozen layers where there is none yet; and once
        with graphs of `_LITTLE_MIB` at most, at the price of encoding most items twice. Full fine-tuning is run in the
        best micro-batch, and in one pass over the whole batch, as code without accumulation does.
        """
        setting, users = self.setting, self.extent.users[0]
        width = setting.history + 1
        known = "padded_full" in self.comparison.best
        size = self.comparison.micro_users("padded_full", width) if known else 4
        measure = partial(measure_apart, users=users, whole_catalogue=self.extent.whole_catalogue)
        little = dataclasses.replace(setting, graph_memory_mib=_LITTLE_MIB)
        found = {
            "lora_top2_first": measure("lora_top2", setting, micro_users=size),
            "lora_top2": measure("lora_top2", setting, micro_users=size),
            "lora_top2_little": measure("lora_top2", little, micro_users=size),
            "padded_full": measure("padded_full", setting, micro_users=size),
            "padded_full_whole": measure("padded_full", setting, micro_users=users),
        }
        peaks = {name: max(one.training_mib, one.preparing_mib) for name, one in found.items()}
        return {
            "users": users,
            "micro_batch_rows": size * width,
            "little_graph_memory_mib": _LITTLE_MIB,
            **{kind: dataclasses.asdict(one) for kind, one in found.items()},
            "ratios": {
                theirs: {ours: peaks[theirs] / peaks[ours] for ours in ("lora_top2", "lora_top2_little")}
                for theirs in ("padded_full", "padded_full_whole")
            },
        }
