"""The engine as a value."""

from __future__ import annotations

from pathlib import Path

from lab.bounds import PORT, Range
from lab.load.engines import Engine, Option
from lab.load.plan import MAX_PROCESSES, LoadPlan
from lab.plugins.locust.plan import NAME, UI_PORT, plan_of, read_before_names


def _run(plan: LoadPlan, file: Path) -> None:
    from lab.plugins.locust.master import Master  # noqa: PLC0415 (imports Locust, only for its runs)

    Master(plan, file).run()


ENGINE = Engine(
    name=NAME,
    summary="simulated users that a locustfile and a web UI direct",
    plan=plan_of,
    run=_run,
    options=(
        Option(
            name="workers",
            help="Worker processes; 0, the default: users run in the driver.",
            type=int,
            within=Range(0, MAX_PROCESSES),
        ),
        Option(name="locustfile", help="Behaviour of users; an example by default.", type=Path),
        Option(name="ui", help="Serve Locust's web UI, which sets the load until Ctrl-C.", type=bool),
        Option(name="ui-port", help=f"Port of the UI on 127.0.0.1; {UI_PORT} by default.", type=int, within=PORT),
    ),
    read_before_names=read_before_names,
)
