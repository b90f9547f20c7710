"""Results of a run: the file that keeps them, and the lines that people read."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.publishing.environment import describe_environment


class Results:
    """Blocks of results by name, in one JSON file that later runs add to.

    Args:
        path: of the file; blocks that are there are kept until they are measured again.
        shared: what holds for all blocks of this run, and is stored beside each.
    Raises:
        InputError: if the file is no such file.
    """

    def __init__(self, path: Path, shared: Mapping[str, Any]) -> None:
        self.path, self.shared = path, dict(shared)
        self.blocks: dict[str, dict[str, Any]] = {}
        if path.is_file():
            try:
                self.blocks = json.loads(path.read_text(encoding="utf-8"))["blocks"]
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{path}: is no file of speed results; name another with --output") from None

    def keep(self, name: str, block: dict[str, Any]) -> None:
        """Store a block, with what was run and where."""
        self.blocks[name] = {**block, "run": self.shared}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"blocks": self.blocks}, indent=1)
        self.path.write_text(text + "\n", encoding="utf-8")


def describe_run() -> dict[str, Any]:
    """Return versions, machine and commit, those of the counterparts among them."""
    found = describe_environment()
    for name in ("sentence-transformers", "matplotlib"):
        try:
            found["packages"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def lines(blocks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what the blocks say: ratios (median, with the least and the most of the rounds) and what they rest on."""
    for name, block in blocks.items():
        if "floor" in block:
            yield from _path_lines(name, block)
        elif name == "sentence_transformers":
            yield f"{name}: {block['positions_per_second']:.1f} training positions a second (LoRA, all layers)"
            for other, their in block["against"].items():
                yield (
                    f"  {_ratio(their['ratio'])} {other} of sentence-transformers, "
                    f"{their['positions_per_second']:.1f} positions a second, {their['batch']} pairs a batch"
                )
        elif name == "encoding":
            yield (
                f"{name}: {block['items']:,} items in {block['seconds']['median']:.2f} s, "
                f"{block['tokens_per_second']:,.0f} tokens a second"
            )
            yield (
                f"  {_ratio(block['ratio'])} SentenceTransformer.encode, {block['batch_size']} texts a batch; vectors "
                f"differ by {block['difference']:.1e}"
            )
        elif name == "memory":
            yield from _memory_lines(block)
        elif name == "warm_start":
            parts = ", ".join(f"{part} {block[part]['median']:.2f} s" for part in ("training", "first_batch"))
            yield f"{name}: first step after {block['first_step']['median']:.2f} s ({parts})"
        elif name == "micro_batches":
            for other, found in block["kinds"].items():
                tried = ", ".join(f"{rows} {1e3 * seconds:.1f}" for rows, seconds in found["seconds_a_row"].items())
                yield f"{other}, rows a micro-batch and milliseconds a row: {tried}"
        elif name == "agreement":
            yield f"{name}: loss to {block['loss']:.1e}, gradients of {block['num_tensors']} to {block['gradient']:.1e}"


def _memory_lines(block: Mapping[str, Any]) -> Iterator[str]:
    ours, first, little = (block[name] for name in ("lora_top2", "lora_top2_first", "lora_top2_little"))
    yield (
        f"memory: LoRA, top two layers, {ours['training_mib']:.0f} MiB above imports and weights (preparing "
        f"{ours['preparing_mib']:.0f}, {first['preparing_mib']:.0f} the first time); {little['training_mib']:.0f} with "
        f"graphs of {block['little_graph_memory_mib']} MiB"
    )
    rows = {"padded_full": f"{block['micro_batch_rows']} rows", "padded_full_whole": "all rows"}
    for theirs, ratios in block["ratios"].items():
        yield (
            f"  padded full fine-tuning, {rows[theirs]} at a time, {block[theirs]['training_mib']:.0f} MiB: "
            f"{ratios['lora_top2']:.1f} and {ratios['lora_top2_little']:.1f} times as much"
        )


def _path_lines(name: str, block: Mapping[str, Any]) -> Iterator[str]:
    seconds, floor = block["seconds"], block["floor"]
    yield (
        f"{name}: {seconds['median']:.3f} s a step ({seconds['min']:.3f} to {seconds['max']:.3f}), "
        f"{block['items']:.0f} items, {block['tokens']:,.0f} tokens of {block['padded_tokens']:,} padded, "
        f"{block['tokens_per_second']['median']:,.0f} tokens a second"
    )
    yield (
        f"  {block['gemm_share']:.0%} of the GEMM peak of {block['machine']['gemm_gflops']['median']:.0f} GFLOP/s; "
        f"floor {floor['seconds']:.3f} s ({floor['share_of_step']:.0%} of the step)"
    )
    yield "  " + ", ".join(f"{part} {seconds:.3f} s" for part, seconds in block["parts"].items())
    for other, their in block["against"].items():
        yield (
            f"  {_ratio(their['ratio'])} {other}, {their['seconds']['median']:.2f} s a step, "
            f"{their['micro_batch_rows']} rows a micro-batch"
        )


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f} times ({ratio['min']:.2f} to {ratio['max']:.2f}) as fast as"
