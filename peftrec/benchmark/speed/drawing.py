"""Cost curves as one picture of four panels, and quality against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftrec.config import InputError

_TITLES = {
    "history": "inputs of a position",
    "users": "users of a batch",
    "layers": "layers that LoRA tunes",
    "catalogue": "items of the catalogue",
}
_NAMES = {
    "lora_all": "LoRA, all layers",
    "lora_top2": "LoRA, top two layers",
    "lora": "LoRA, stored states below",
    "side": "side network",
    "padded_lora": "LoRA, every padded position",
    "lora_top2_all_items": "LoRA, top two layers, softmax over all items",
    "side_all_items": "side network, softmax over all items",
}


def draw_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], target: Path) -> list[Path]:
    """Draw seconds a step, medians with their range, against what varies; both axes logarithmic.

    Args:
        curves: points by panel; a point has the place `at`, and seconds by name.
        target: without an ending.
    Returns:
        The files written, SVG and PNG.
    Raises:
        InputError: if matplotlib is not installed.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for panel, (name, points) in zip(axes.flat, curves.items(), strict=False):
        for series in [key for key in points[0] if key in _NAMES]:
            at = [point["at"] for point in points]
            middle = [point[series]["median"] for point in points]
            ends = [[p[series]["median"] - p[series]["min"] for p in points]]
            ends.append([p[series]["max"] - p[series]["median"] for p in points])
            dashed = "--" if series.startswith("padded") else "-"
            panel.errorbar(at, middle, yerr=ends, marker="o", capsize=3, linestyle=dashed, label=_NAMES[series])
        panel.set(xscale="log", yscale="log", xlabel=_TITLES[name], ylabel="seconds a step")
        panel.set_xticks([point["at"] for point in points], [str(point["at"]) for point in points])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.margins(y=0.3)  # room for the legend
        panel.legend(fontsize="small")
    for panel in list(axes.flat)[len(curves) :]:
        panel.axis("off")
    return _save(figure, target.with_name(f"{target.name}-curves"))


def draw_quality(
    lines: Sequence[Mapping[str, Any]], labels: Mapping[str, str], goal: float, start: float | None, target: Path
) -> list[Path]:
    """Draw validation NDCG@10 against seconds of training, a logarithmic axis, a colour for each path.

    Args:
        lines: of runs: `path`, `seconds` and `values` an epoch, and whether the run is the `best` of its path.
        labels: by path.
        goal: a value that is drawn across.
        start: the value before the first step; None is not drawn.
        target: without an ending.
    Returns:
        The files written, SVG and PNG.
    Raises:
        InputError: if matplotlib is not installed.
    """
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    colours = {path: f"C{number}" for number, path in enumerate(labels)}
    for line in lines:
        path, best = line["path"], line["best"]
        look: dict[str, Any] = {"linewidth": 2, "label": labels[path]} if best else {"linewidth": 1, "alpha": 0.4}
        panel.plot(line["seconds"], line["values"], marker="o", markersize=4, color=colours[path], **look)
    panel.axhline(goal, color="black", linestyle="--", linewidth=1, label=f"target, {goal:.4f}")
    if start is not None:
        panel.axhline(start, color="grey", linestyle=":", linewidth=1, label=f"before training, {start:.4f}")
    panel.set(xscale="log", xlabel="seconds of training", ylabel="validation NDCG@10")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    return _save(figure, target)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise InputError("drawing curves needs matplotlib; pip install 'peftrec[benchmark]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    # Identifiers inside of an SVG are random otherwise, and the file another each time.
    matplotlib.rcParams["svg.hashsalt"] = "peftrec"
    return pyplot


def _save(figure: Any, target: Path) -> list[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = [target.with_name(f"{target.name}.{ending}") for ending in ("svg", "png")]
    for path in written:
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    _pyplot().close(figure)
    return written
