"""Baselines: what every trained model must beat, behind one protocol."""

from peftrec.baselines.baseline import BASELINES, Baseline, FittedBaseline

__all__ = ["BASELINES", "Baseline", "FittedBaseline"]
