"""Locust's environment for a run of the lab, the same in every process of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from configargparse import Namespace
from locust.env import Environment

from lab.load.locust.locustfile_loader import read_locustfile

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

# The first users of a run that a person steers come so fast, unless that person says otherwise.
_RAMP_S = 10


def environment_of(plan: LoadPlan) -> Environment:
    """Locust's environment, with the users of the plan's locustfile.

    Raises:
        InputError: the locustfile will not do.
    """
    assert plan.locust is not None  # noqa: S101 (who comes here has one)
    # All users of a plan begin at once; Locust warns of that because of what users of HTTP would do.
    logging.getLogger("locust.runners").setLevel(logging.ERROR)
    locustfile = read_locustfile(plan.locust.locustfile)
    options = Namespace(
        # Locust's own reading of options would look at its configuration files and variables, too.
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
