# SPDX-License-Identifier: Apache-2.0
"""What the server counts, in Prometheus's form.

In: requests and batches.  Out: ``Metrics.registry``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from .batching import Batcher

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = here = CollectorRegistry()
        model, of = ["model"], "neuralmatrix"
        self._requests = Counter(
            "requests", "Requests by status.", [*model, "status"], namespace=of, registry=here
        )
        self._seconds = Histogram(
            "request_seconds", "From a request's headers to its answer.", model, of, registry=here
        )
        self._batches = Histogram(
            "batch_inputs", "Inputs that ran together.", model, of, registry=here, buckets=SIZES
        )
        self._queue = Gauge("queue_inputs", "Inputs that wait.", model, of, registry=here)

    def request(self, model: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(model, str(status)).inc()
        self._seconds.labels(model).observe(seconds)

    def batch_of(self, model: str) -> Callable[[int], None]:
        """Return a function that counts one batch of a model."""
        return self._batches.labels(model).observe

    def watch_queue(self, model: str, batcher: Batcher) -> None:
        """Show how many inputs wait whenever somebody asks."""
        self._queue.labels(model).set_function(lambda: batcher.waiting)
