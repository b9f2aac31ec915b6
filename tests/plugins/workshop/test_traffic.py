"""What notebooks count in a run."""

from types import SimpleNamespace
from typing import Any

from lab.plugins.workshop import refused_percent


def test_only_what_a_limit_refused_counts_as_refused() -> None:
    by_status = {"OK": 40, "RESOURCE_EXHAUSTED": 30, "DEADLINE_EXCEEDED": 20, "UNAVAILABLE": 10}
    run: Any = SimpleNamespace(summary=SimpleNamespace(planned=100, failed=60, by_status=by_status))

    assert refused_percent(run) == 30
