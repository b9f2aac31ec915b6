"""Locust's environment for a run, the same in each of its processes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from configargparse import Namespace
from locust.env import Environment

from lab.load.locust.locustfile_loader import read_locustfile

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

MASTER_HOST = "127.0.0.1"
# Duration of the ramp-up in the web UI, by default.
_RAMP_S = 10


def environment_of(plan: LoadPlan) -> Environment:
    """Locust's environment, with the users of the plan's locustfile.

    Raises:
        InputError: the locustfile is invalid.
    """
    assert plan.locust is not None  # noqa: S101 (set in every plan for Locust)
    # All users of a plan start at once. Locust warns of that, with HTTP users in mind.
    logging.getLogger("locust.runners").setLevel(logging.ERROR)
    locustfile = read_locustfile(plan.locust.locustfile)
    options = Namespace(
        # Locust's own parser would also read its configuration files and environment variables.
        num_users=plan.users,
        spawn_rate=max(1, plan.users // _RAMP_S),
        run_time=None,
        headless=not plan.locust.by_hand,
        stats_history_enabled=False,
        enable_rebalancing=False,
        web_base_path="",
        tags=None,
        exclude_tags=None,
        stop_timeout=0.0,
    )
    return Environment(
        user_classes=list(locustfile.users), locustfile=plan.locust.locustfile.name, parsed_options=options
    )
