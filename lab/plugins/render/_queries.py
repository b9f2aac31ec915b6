"""Prometheus queries of a lab's metrics, which recording rules and dashboards share.

Names of recorded series are level:metric:operation, as Prometheus recommends.
"""

from __future__ import annotations

WINDOW = "30s"
"""Of rates: runs of a lab last for seconds."""
BURN_WINDOWS = ("1m", "5m", "1h")
_TOPOLOGY, _METHOD = "lab, topology", "lab, role, grpc_service, grpc_method"
_REQUESTS, _FAILED = "lab_load_requests_total", 'result="failed"'


def rate(metric: str, by: str, window: str = WINDOW, selector: str = "") -> str:
    """Events per second, summed over all other labels."""
    return f"sum by ({by}) (rate({metric}{f'{{{selector}}}' if selector else ''}[{window}]))"


def quantile(share: float, metric: str, by: str, window: str = WINDOW, selector: str = "") -> str:
    """A quantile of a histogram, seconds."""
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', f'{by}, le', window, selector)})"


def failures(window: str = WINDOW, by: str = _TOPOLOGY, selector: str = "") -> str:
    """Share of the load's requests that failed."""
    failed = ", ".join(filter(None, (selector, _FAILED)))
    return f"{rate(_REQUESTS, by, window, failed)} / {rate(_REQUESTS, by, window, selector)}"


def burn(window: str) -> str:
    """Recorded series: how many times too fast the failures of a topology spend the error budget."""
    return f"lab_topology:error_budget_burn:{window}"


def recorded(slo: float) -> dict[str, dict[str, str]]:
    """Group of rules → recorded series → its query; ``slo`` as of :class:`lab.plugins.render.Source`."""
    return {
        "lab-topologies": {
            "lab_topology:requests:rate": rate(_REQUESTS, _TOPOLOGY),
            "lab_topology:failures:ratio": failures(),
            "lab_topology:latency_seconds:p50": quantile(0.5, "lab_load_latency_seconds", _TOPOLOGY),
            "lab_topology:latency_seconds:p99": quantile(0.99, "lab_load_latency_seconds", _TOPOLOGY),
        },
        "lab-methods": {
            "lab_method:requests:rate": rate("grpc_server_started_total", _METHOD),
            # A method that never failed has no such series: its rate is 0.
            "lab_method:failures:rate": rate("grpc_server_handled_total", _METHOD, selector='grpc_code!="OK"')
            + f" or 0 * {rate('grpc_server_started_total', _METHOD)}",
            "lab_method:handling_seconds:p99": quantile(0.99, "grpc_server_handling_seconds", _METHOD),
        },
        "lab-error-budget": {burn(window): f"({failures(window)}) / {1 - slo:g}" for window in BURN_WINDOWS},
    }
