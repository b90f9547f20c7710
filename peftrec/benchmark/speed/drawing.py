"""Cost curves as one picture of four panels."""

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
    try:
        import matplotlib
    except ImportError:
        raise InputError("drawing curves needs matplotlib; pip install 'peftrec[benchmark]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

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
    target.parent.mkdir(parents=True, exist_ok=True)
    written = [target.with_name(f"{target.name}-curves.{ending}") for ending in ("svg", "png")]
    for path in written:
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return written
