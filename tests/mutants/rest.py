"""``python -m tests.mutants.rest LAB SECONDS``: drives a lab's gateways by REST, as ``lab load`` does by gRPC."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import grpc
import uvloop
from google.protobuf import json_format

from lab.client import Answer
from lab.errors import CallError
from lab.lab import Lab
from lab.load.open_loop import Stop
from lab.load.open_loop_run import drive
from lab.load.plan import read_plan
from lab.load.steps import write_summary
from lab.routing import headers
from lab.routing.keys import HEADER, SHADOW_HEADER
from lab.runs import LoadOptions
from lab.runs.folder import PLAN
from models.apis import APIS
from models.context import write_context
from models.rest import TIMEOUT

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan
    from lab.runs import RunContext
    from lab.runtime import Runtime
    from lab.runtime.state import LabState

_RATE = 60.0
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_CONTEXTS = {
    "device": ("tv", "phone", "web"),
    "country": ("DE", "US", "Österreich", "de"),
    "segment": ("kids", "adults"),
    "tenant": ("consumer", "Müller"),
}


class RestClient:
    """Calls use cases at gateways in turn, by JSON over HTTP/1.1."""

    copies_dropped = 0

    def __init__(self, addresses: list[str], identity: Path, caller: str) -> None:
        context = ssl.create_default_context(cafile=identity / "ca.pem")
        context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        self._addresses, self._caller = cycle(addresses), caller

    async def ready(self) -> None:
        """Returns at once: a call waits for its connection."""

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def call(self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str) -> Answer:
        """Posts one request, with its id and deadline in headers, and its fields in the body."""
        request.ClearField("envelope")
        write_context(request.envelope.context, {**context, "caller": self._caller})
        body = json_format.MessageToJson(request, ensure_ascii=False).encode()
        sent = {"content-type": "application/json", headers.REQUEST_ID: request_id, TIMEOUT: "4000m"}
        url = f"{next(self._addresses)}/v1/use-cases/{use_case}:call"
        try:
            async with self._session.post(url, data=body, headers=sent) as reply:
                text, got = await reply.text(), reply.headers
        except aiohttp.ClientError as error:
            raise CallError(grpc.StatusCode.UNAVAILABLE, str(error)) from error
        if reply.status != 200:
            refusal = json.loads(text)
            raise CallError(_CODES[refusal["code"]], refusal["message"])
        return Answer(
            json_format.Parse(text, _response_of(request)()),
            got.get(headers.SOURCE, headers.MODEL),
            got.get(HEADER, ""),
            int(got.get(headers.REVISION, 0)),
            int(got.get(headers.ATTEMPTS, 1)),
            request_id,
            got.get(SHADOW_HEADER, ""),
        )

    def stream(
        self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str
    ) -> AsyncIterator[Answer]:
        """REST has no streams, and no plan here asks for one."""
        raise NotImplementedError


def _response_of(request: Any) -> Any:
    return next(api.unary.response_class for api in APIS.values() if isinstance(request, api.unary.request_class))


class RestLab(Lab):
    """A lab whose load goes by REST, from this process."""

    def _run_context(self, state: LabState) -> RunContext:
        context, endpoints = super()._run_context(state), self.endpoints()
        gateways = [url for unit, url in endpoints.rest.items() if unit.startswith("gateway-")]
        identity = Path(endpoints.identity) / "current"
        runtime = _InProcess(context.runtime, lambda plan: RestClient(gateways, identity, plan.caller))
        return replace(context, runtime=cast("Runtime", runtime))


class _InProcess:
    """A runtime whose load driver is a thread of this process."""

    def __init__(self, runtime: Runtime, connect: Callable[[LoadPlan], RestClient]) -> None:
        self._runtime, self._connect = runtime, connect

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def run_driver(self, run: Path, caller: str, on_line: Callable[[str], None], *_: Any, **__: Any) -> int:
        """Drives the plan of a run."""
        del caller
        plan = read_plan(run / PLAN)

        async def driven() -> None:
            report = lambda seen: on_line(seen.to_line())  # noqa: E731
            write_summary(plan.summary, await drive(plan, plan.schedule(), self._connect(plan), Stop(), report))

        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(uvloop.run, driven()).result()
        return 0


if __name__ == "__main__":
    name, seconds = sys.argv[1:]
    RestLab(name).load(
        LoadOptions(topology="gateway", caller="homepage", rate=_RATE, duration_s=float(seconds), contexts=_CONTEXTS)
    )
