"""The engine ``pages``: a driver asks a caller for pages at their times, and caller units make the calls.

Each caller that takes part has a run of its own, with the calls that it made. The run of the page's own caller has all
pages, too, as evidence of the checker ``page``.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.bounds import COUNT, Range
from lab.errors import InputError
from lab.load.engines import Engine, Option
from lab.load.plan import EnginePlan
from lab.page_call_tree import Page, callers_in, calls_of
from lab.roles import ROLES
from services.caller.pages import PAGES

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan
    from lab.runs import LoadOptions
    from lab.runtime.state import LabState

NAME = "pages"
CHECKER = "page"
TIMEOUT_MS = 900
"""Below a second, gRPC passes a deadline on to the millisecond."""

CANCEL_EVERY = 20
RETRIES = 10
"""Retries for each hundred calls. Google's SRE book, Handling Overload: 10 % of a client's requests."""


def plan_of(
    *, page: str = "", page_timeout_ms: int = TIMEOUT_MS, cancel_every: int = CANCEL_EVERY, page_retries: int = RETRIES
) -> EnginePlan:
    """Its part of the plan; :func:`spread` adds what the lab's spec says of the page."""
    if not page:
        raise InputError("--page: name the caller whose pages to ask for, e.g. --page homepage")
    settings = {"page": page, "timeout_ms": page_timeout_ms, "cancel_every": cancel_every, "retries": page_retries}
    return EnginePlan(name=NAME, paced_by=f"the pages of {page} decide when", settings=settings)


def pages_of(spec: Any) -> dict[str, Page]:
    """Returns the page of each caller of a lab: that of its spec, else the one that the lab knows."""
    return {name: page or PAGES[name] for name, page in spec.pages.items()}


def spread(options: LoadOptions, state: LabState) -> list[LoadOptions]:
    """Returns a run for each caller that takes part in a page, that of the page's own caller first.

    Raises:
        InputError: there is no such caller.
    """
    engine, pages = options.engine, pages_of(state.spec)
    page = engine.settings["page"]
    if page not in pages:
        raise InputError(f"--page: {page!r} is not a caller of this lab; there are {', '.join(pages)}")
    units = {unit.name: unit.port.from_other_pods for unit in state.plan.units}
    calls, run = calls_of(pages, page), secrets.token_hex(4)
    callers = callers_in(pages, page)
    settings = {
        **engine.settings,
        "run": run,
        "calls": [list(each) for each in calls],
        "units": {name: units[name] for name in callers},
    }
    if fronting := [unit for unit in state.plan.units if ROLES[unit.role].fronts_pages]:
        settings["edge"] = {"unit": fronting[0].name, "address": fronting[0].port.from_other_pods}
    return [
        replace(
            options,
            caller=caller,
            use_cases=tuple(dict.fromkeys(each.use_case for each in calls if each.caller == caller)),
            id_prefix=f"{run}.{caller}",
            engine=replace(
                engine,
                settings=settings,
                checked_by={CHECKER: f"pages of {page} were asked for"} if caller == page else {},
            ),
        )
        for caller in callers
        if caller == page or any(each.caller == caller for each in calls)
    ]


def _run(plan: LoadPlan, path: Path) -> None:
    from lab.plugins.pages.driver import run  # noqa: PLC0415 (imports gRPC, only for its runs)

    run(plan, path)


ENGINE = Engine(
    name=NAME,
    summary="pages of a caller at their times, whose calls the caller units make",
    plan=plan_of,
    run=_run,
    spread=spread,
    options=(
        Option(name="page", help="Caller whose pages to ask for, at --rate pages a second."),
        Option(
            name="page-timeout-ms",
            help=f"Deadline of a page, which shrinks from caller to caller; {TIMEOUT_MS} by default.",
            type=int,
            within=Range(1, 60_000),
        ),
        Option(
            name="cancel-every",
            help=f"Cancel one page in this many while it is built; 0: none; {CANCEL_EVERY} by default.",
            type=int,
            within=COUNT,
        ),
        Option(
            name="page-retries",
            help=f"Retries at models for each hundred calls, over all hops of the pages; {RETRIES} by default.",
            type=int,
            within=Range(0, 400),
        ),
    ),
)
