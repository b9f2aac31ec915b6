"""The steps around the requests that all engines share: connect, warm up, raise priority, report, write the summary."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from lab.errors import CallError, RunError
from lab.load.arrivals import WHOLE
from lab.load.mix import Payloads
from lab.topologies import open_client
from lab.transport import tracing
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.load.arrivals import Share
    from lab.load.outcome import LoadClient
    from lab.load.plan import LoadPlan
    from lab.load.progress import Progress
    from lab.load.summary import DriverSummary
    from lab.routing.attempts import RequestAttempts

# Driver and lab share the processors of one machine. A driver that waits for its turn measures its own delay.
_NICENESS = -10

WARM_UP = ".warm-up-"
"""In the ids of the calls before a run, between the plan's prefix and their number."""

# Requests leave few reference cycles, and every collection delays one.
_GC_THRESHOLDS = (10_000, 20, 50)


def connect(plan: LoadPlan, share: Share = WHOLE) -> LoadClient:
    """Opens the plan's client; inside a running event loop."""
    tracing.start()
    tear = TearEvery(plan.tear_every, share) if plan.tear_every else None
    return open_client(plan.topology, plan.caller, plan.endpoints, before_send=tear)


async def warm_up(plan: LoadPlan, client: LoadClient, errors: dict[str, str]) -> None:
    """Sends one call per use case, outside the history, so that the first request finds connections and decisions.

    Args:
        plan: names the use cases.
        client: fresh from being opened.
        errors: gets, by use case, why its call failed.
    """
    await client.ready()
    payloads = Payloads()
    context = {"user_id": "warm-up", "caller": plan.caller, "traffic_origin": plan.traffic_origin}
    for number, use_case in enumerate(dict.fromkeys(plan.use_cases)):
        message = payloads.get(use_case.api, plan.payload_bytes).message
        call = client.call(use_case.name, message, context, request_id=f"{plan.id_prefix}{WARM_UP}{number}")
        try:
            async with asyncio.timeout(plan.timeout_s):
                await call
        except CallError as error:
            errors[use_case.name] = str(error)
        except TimeoutError:
            errors[use_case.name] = f"no answer within {plan.timeout_s:g} s"


def raise_priority(niceness: int = _NICENESS) -> None:
    """Makes this process punctual: higher scheduling priority if permitted, and rare garbage collections."""
    with suppress(OSError):  # needs a privilege
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    # What exists now lives to the end; the collector does not visit it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def print_progress(progress: Progress) -> None:
    """Prints one line to standard output; the run goes on if nobody reads it."""
    with suppress(BrokenPipeError):
        print(progress.to_line(), flush=True)  # noqa: T201 (this is the driver's interface)


def write_summary(path: Path, summary: DriverSummary) -> None:
    """Writes a driver's summary.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        path.write_bytes(orjson.dumps(asdict(summary), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error


# The version in torn bodies; no route table has it, as versions count from 1.
OTHER_VERSION = "v0"


class TearEvery:
    """Tears the first attempt of every n-th request, as if half of a decision came from another revision.

    It is a client's ``before_send`` hook. With a share of a run it counts the other shares' requests too, as if each
    had come just before its own, so all shares together tear as many as one process would.
    """

    def __init__(self, every: int, share: Share = WHOLE) -> None:
        self._every, self._step = every, share.step
        self._requests = share.first + 1 - share.step

    async def __call__(self, attempts: RequestAttempts) -> None:
        """Called before each attempt."""
        if attempts.made or attempts.target.model_config is None:
            return
        if self.is_next():
            torn = serving_pb2.ModelConfig(model=attempts.target.model_config.model, version=OTHER_VERSION)
            attempts.target = replace(attempts.target, model_config=torn)

    def is_next(self) -> bool:
        """Whether to tear the next request."""
        self._requests += self._step
        return self._requests % self._every == 0
