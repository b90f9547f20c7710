"""Baselines: what every trained model must beat, behind one protocol."""

from peftrec.baselines.baseline import BASELINES, Baseline, FittedBaseline
from peftrec.baselines.reference import REFERENCES, fit_references, store_references

__all__ = ["BASELINES", "REFERENCES", "Baseline", "FittedBaseline", "fit_references", "store_references"]
