"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from peftrec.retrieval.rules import RuleBook

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 5.0, 30.0)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class Measurements:
    """Counts and times of one worker.

    Args:
        folder: where several workers put theirs together; None for one.
        gauges: returns what is read when somebody asks: name to description and value.
    """

    def __init__(self, folder: Path | None, gauges: Callable[[], Mapping[str, tuple[str, float]]]) -> None:
        self._folder, self._gauges = folder, gauges
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "peftrec_requests", "Requests answered", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "peftrec_request_seconds", "Time from request to answer", ("route",), buckets=_SECONDS, registry=registry
        )
        self.events = Counter("peftrec_events_stored", "Events stored, repeated ones not counted", registry=registry)
        self._fallbacks = Counter(
            "peftrec_fallbacks", "Lists of popular items because nothing was known of the user", registry=registry
        )
        self._suppressed = Counter(
            "peftrec_suppressed", "Items that a rule kept out of a list", ("rule",), registry=registry
        )
        self.reloads = Counter("peftrec_reloads", "Reloads of the run folder", ("outcome",), registry=registry)
        if folder is None:
            registry.register(_Read(gauges))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def expect_rules(self, rules: RuleBook | None) -> None:
        """Count from nought what rules keep out of lists, before they have."""
        for name in () if rules is None else rules.names:
            self._suppressed.labels(name)

    def listed(self, answer: Mapping[str, Any]) -> None:
        """Count what a list says of itself."""
        if answer["fallback"] is not None:
            self._fallbacks.inc()
        for one in answer["suppressed"]:
            self._suppressed.labels(one["rule"]).inc()

    def text(self) -> bytes:
        """Return all in the text format of Prometheus; of all workers where there are several."""
        registry = self._registry
        if self._folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
            registry.register(_Read(self._gauges))
        return generate_latest(registry)


class _Read(Collector):
    """Values that are not counted but read."""

    def __init__(self, gauges: Callable[[], Mapping[str, tuple[str, float]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, (description, value) in self._gauges().items():
            yield GaugeMetricFamily(name, description, value)

    def describe(self) -> list[GaugeMetricFamily]:
        return []
