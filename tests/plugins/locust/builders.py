"""Plans of runs that Locust drives."""

from pathlib import Path
from typing import Any

from lab.load.plan import EnginePlan
from lab.plugins.locust.plan import EXAMPLE, LOCUSTFILE, NAME


def by_locust(locustfile: Path = EXAMPLE, **changes: Any) -> EnginePlan:
    """Locust's part of a plan, of which nothing is checked."""
    return EnginePlan(name=NAME, files={LOCUSTFILE: locustfile}, **changes)
