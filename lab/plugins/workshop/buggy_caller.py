"""A caller with a bug, under load: it routes requests by a wrong context.

The history records the true context of each request, so the checkers, which know nothing of the bug, can find it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvloop

from lab.lab import Lab
from lab.load.open_loop import Stop
from lab.load.open_loop_run import drive
from lab.load.plan import LoadPlan, read_plan
from lab.load.steps import WARM_UP, connect, write_summary
from lab.runs.folder import PLAN

if TYPE_CHECKING:
    from lab.client import Answer
    from lab.load.outcome import LoadClient
    from lab.runs import LoadOptions, RunContext, RunResult
    from lab.runtime import Runtime
    from lab.runtime.state import LabState

Bug = Callable[[dict[str, str]], Mapping[str, str]]


def load_with(lab: Lab, options: LoadOptions, bug: Bug) -> RunResult:
    """Drives load as :meth:`lab.lab.Lab.load` does, from this process, through a caller with a bug.

    Args:
        lab: a lab that is up.
        options: the load.
        bug: true context of a request → the context that the caller routes it by.

    Raises:
        LabError: see :meth:`lab.lab.Lab.load`.
    """
    endpoints = lab.endpoints().clients[options.caller]
    return _BuggyLab(lab, bug).load(replace(options, endpoints=endpoints))


class _BuggyLab(Lab):
    """The same lab, driven by a buggy caller."""

    def __init__(self, lab: Lab, bug: Bug) -> None:
        super().__init__(lab.name, lab.folder.parent.parent)
        self._bug = bug

    def _run_context(self, state: LabState) -> RunContext:
        context = super()._run_context(state)
        return replace(context, runtime=cast("Runtime", _InProcessDriver(context.runtime, self._bug)))


class _InProcessDriver:
    """A runtime whose load driver is a thread of this process."""

    def __init__(self, runtime: Runtime, bug: Bug) -> None:
        self._runtime, self._bug = runtime, bug

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run_driver(self, run: Path, caller: str, on_line: Callable[[str], None], *_: Any, **__: Any) -> int:
        del caller
        plan = read_plan(run / PLAN)
        # A notebook's own thread has an event loop already.
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(uvloop.run, self._drive(plan, on_line)).result()
        return 0

    async def _drive(self, plan: LoadPlan, on_line: Callable[[str], None]) -> None:
        client = _BuggyClient(connect(plan), self._bug)
        summary = await drive(plan, plan.schedule(), client, Stop(), lambda seen: on_line(seen.to_line()))
        write_summary(plan.summary, summary)


class _BuggyClient:
    """A client that gets the context which the bug makes of the true one."""

    def __init__(self, client: LoadClient, bug: Bug) -> None:
        self._client, self._bug = client, bug
        self.ready, self.close = client.ready, client.close

    @property
    def copies_dropped(self) -> int:
        return self._client.copies_dropped

    async def call(self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str) -> Answer:
        # Warm-up requests are the driver's own.
        seen = context if WARM_UP in request_id else self._bug(dict(context))
        return await self._client.call(use_case, request, seen, request_id=request_id)

    def stream(
        self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str
    ) -> AsyncIterator[Answer]:
        return self._client.stream(use_case, request, self._bug(dict(context)), request_id=request_id)
