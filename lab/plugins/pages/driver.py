"""Drives the pages of a run, and collects from caller units which calls they made for them."""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic_ns, process_time
from typing import TYPE_CHECKING, Any

import grpc.aio
import orjson
import uvloop

from lab.client import Answer
from lab.clock import offset_ns
from lab.errors import CallError
from lab.history import SpoolWriter, read_spool, values_of
from lab.history.record import FIELDS
from lab.load.open_loop import OpenLoop, Stop, first_of
from lab.load.progress import ProgressLines, each_second
from lab.load.steps import print_progress, raise_priority, write_summary
from lab.load.summary import ShardResult, combine
from lab.measure.latency import LatencyHistogram
from lab.plugins.pages.edge.probes import try_attacks
from lab.plugins.pages.edge.role import KEY_VARIABLE
from lab.plugins.pages.edge.role import NAME as EDGE
from lab.plugins.pages.edge.service import PAGE
from lab.plugins.pages.edge.tokens import HEADER, SCHEME, claims_of, sign
from lab.routing.headers import REQUEST_ID, RETRIES_LEFT, VIA
from lab.transport import open_channel
from models.context import write_context
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan

_EVIDENCE = "gathered-page.json"
_SPOOL = "pages.jsonl"
_GRACE_S = 5.0  # for a caller unit that is started again, after the last page's deadline
_AGAIN_S = 0.2
_CANCELLED_AFTER_S = 0.002
_TOKEN_S = 60.0
_FORGED = {"user_id": "forged", "tenant": "forged"}  # beside a token, which an edge goes by
_SAVED_PAGES = 10  # as many pages' retries are saved at most
_SEQUENCE, _ID, _INTENDED, _SENT, _DONE, _STATUS = map(
    FIELDS.index, ("sequence", "request_id", "intended_ns", "sent_ns", "done_ns", "status")
)


class Retries:
    """The retries of all pages: each hundred calls save some, and a page takes half of what is saved.

    Args:
        percent: retries for each hundred calls.
        calls: of a page.
    """

    def __init__(self, percent: int, calls: int) -> None:
        self._percent, self._most = percent, _SAVED_PAGES * percent * calls
        self._saved = 0  # hundredths of a retry

    def take(self) -> int:
        """Returns the retries of a page, whose end :meth:`give_back` counts; none while callers have made too many."""
        taken = max(0, -(-(self._saved // 100) // 2))
        self._saved -= taken * 100
        return taken

    def give_back(self, unused: int, calls: int) -> None:
        """Saves what a page has not used, and what its calls bring."""
        self._saved = min(self._saved + unused * 100 + calls * self._percent, self._most)


class _PageClient:
    """Asks a caller for pages, in place of a client that calls models; through the edge if the lab has one.

    Attributes:
        sections: of each page that was answered, by its id.
        via: the units that the request for it has passed, likewise.
    """

    copies_dropped = 0

    def __init__(self, plan: LoadPlan) -> None:
        settings = plan.engine.settings
        self._plan, self._run = plan, settings["run"]
        self._timeout_s, self._cancel_every = settings["timeout_ms"] / 1_000, settings["cancel_every"]
        page, edge = settings["page"], settings.get("edge")
        address, peer = settings["units"][page], f"caller/{page}"
        self._key = b""
        self._headers: tuple[tuple[str, str], ...] = ()
        if edge:
            address, peer = edge["address"], f"{EDGE}/{edge['unit']}"
            self._key, self._headers = bytes.fromhex(os.environ[KEY_VARIABLE]), ((PAGE, page),)
        self._channel = open_channel(address, peer=peer)
        self._stub = caller_pb2_grpc.PagesStub(self._channel)
        self._retries = Retries(settings["retries"], len(settings["calls"]))
        self.sections: dict[str, list[dict[str, Any]]] = {}
        self.via: dict[str, str] = {}

    async def attack(self) -> dict[str, str]:
        """Tries what the edge must refuse; returns status by attack, nothing without an edge."""
        return await try_attacks(self._stub.GetPage, self._key, self._headers) if self._key else {}

    def _of_user(self, context: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The headers that say to an edge who the user is."""
        expires_s = time.time() + _TOKEN_S  # noqa: TID251 (tokens have dates)
        claims = claims_of(context["user_id"], context.get("tenant", ""), expires_s=expires_s)
        return (*self._headers, (HEADER, f"{SCHEME}{sign(claims, self._key)}"))

    async def ready(self) -> None:
        """Returns once the caller can be asked."""
        async with asyncio.timeout(self._plan.timeout_s):
            await self._channel.channel_ready()

    async def call(self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str) -> Answer:
        """Asks for one page; an empty answer stands for it in the record."""
        del use_case, request
        message = caller_pb2.GetPageRequest(
            topology=self._plan.topology, page_id=request_id, payload_bytes=self._plan.payload_bytes
        )
        write_context(message.context, {**context, **_FORGED} if self._key else context)
        taken = self._retries.take()
        metadata = (
            (RETRIES_LEFT, str(taken)),
            (REQUEST_ID, request_id),
            *(self._of_user(context) if self._key else ()),
        )
        rpc = self._stub.GetPage(message, timeout=self._timeout_s, metadata=metadata)
        number = int(request_id.rpartition("-")[2], 16)
        if self._cancel_every and (number + 1) % self._cancel_every == 0:
            asyncio.get_running_loop().call_later(_CANCELLED_AFTER_S, rpc.cancel)
        try:
            page = await rpc
        except grpc.aio.AioRpcError as error:
            raise CallError(error.code(), error.details() or "") from None
        except asyncio.CancelledError:
            if not rpc.cancelled() or asyncio.current_task().cancelling():  # type: ignore[union-attr]
                rpc.cancel()
                raise
            raise CallError(grpc.StatusCode.CANCELLED, "the driver cancelled the page") from None
        self._retries.give_back(taken - page.retries, _calls_in(page))
        self.sections[request_id] = _sections(page)
        if self._key:
            self.via[request_id] = str(dict(await rpc.trailing_metadata() or ()).get(VIA, ""))
        return Answer(ranking_pb2.RankResponse(), "page", "", 0, 1, request_id)

    def stream(self, *_: Any, **__: Any) -> AsyncIterator[Answer]:
        """No page is a stream."""
        raise NotImplementedError

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()


def _calls_in(page: caller_pb2.Page) -> int:
    """The calls of models that were made for a page; a part of which nobody reported any has none."""
    return sum(_calls_in(each.page) if each.HasField("page") else each.attempts > 0 for each in page.sections)


def _sections(page: caller_pb2.Page) -> list[dict[str, Any]]:
    return [
        {
            "id": each.request_id,
            "use_case": each.use_case,
            "error": each.error,
            "source": each.source,
            "replica": each.answered_by.replica,
            "items_digest": each.items_digest,
            **({"sections": _sections(each.page)} if each.HasField("page") else {}),
        }
        for each in page.sections
    ]


def run(plan: LoadPlan, path: Path) -> None:
    """Runs the plan of one caller: asks for the pages, if they are this caller's, and collects its calls."""
    uvloop.run(_run(plan, path))


async def _run(plan: LoadPlan, path: Path) -> None:
    settings, stop = plan.engine.settings, Stop.on_signals()
    raise_priority()
    began_ns, journal = monotonic_ns(), _Journal(plan)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(journal.follow(plan.caller))
        lines = ProgressLines()
        reporting = asyncio.create_task(
            each_second(began_ns, lambda: print_progress(journal.progress(lines, monotonic_ns() - began_ns)))
        )
        evidence = await _drive(plan, stop, journal) if plan.caller == settings["page"] else {}
        if plan.caller != settings["page"]:
            await first_of(journal.ended, stop.asked, within_s=_longest_s(plan))
            await first_of(journal.ended, stop.forced, within_s=_page_s(plan) + _GRACE_S)
            following.cancel()
        await asyncio.wait([following])
        reporting.cancel()
    if plan.caller == settings["page"]:
        others = [await journal.read(name) for name in settings["units"] if name != plan.caller]
        entries = [journal.entries, *others]
        evidence |= {
            "built": [each["page"] for some in entries for each in some if "page" in each],
            "calls": [each["call"] for some in entries for each in some if "call" in each],
        }
        path.with_name(_EVIDENCE).write_bytes(orjson.dumps(evidence))
    write_summary(plan.summary, combine([_spool(plan, journal, stop, began_ns)]))
    print_progress(journal.progress(lines, monotonic_ns() - began_ns))


def _longest_s(plan: LoadPlan) -> float:
    """Until the last page of the schedule must have ended, after which its caller's driver ends the journals."""
    return plan.schedule().duration_ns / 1e9 + plan.timeout_s + _page_s(plan)


def _page_s(plan: LoadPlan) -> float:
    return float(plan.engine.settings["timeout_ms"]) / 1_000


async def _drive(plan: LoadPlan, stop: Stop, journal: _Journal) -> dict[str, Any]:
    """Asks for all pages of the schedule, ends the journals, and returns the pages, and what an edge refused before."""
    client, spool = _PageClient(plan), plan.spool.with_name(_SPOOL)
    try:
        await client.ready()
        refusals = await client.attack()
        with SpoolWriter(spool) as writer:
            of_pages = replace(plan, id_prefix=plan.engine.settings["run"])
            await OpenLoop(of_pages, plan.schedule(), client, writer, stop).run()
        for name in plan.engine.settings["units"]:
            await journal.end(name)
        records = sorted(read_spool(spool), key=lambda each: each.sequence)
        spool.unlink()
    finally:
        await client.close()
    pages = [
        {
            **dict(zip(FIELDS, values_of(each), strict=True)),
            "sections": client.sections.get(each.request_id),
            "via": client.via.get(each.request_id, ""),
        }
        for each in records
    ]
    return {"pages": pages, "refusals": refusals}


class _Journal:
    """The journals of the callers that take part in a run's pages.

    Attributes:
        entries: of the caller that is followed, so far.
        ended: set once its journal is whole.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan, self._run = plan, plan.engine.settings["run"]
        self.entries: list[dict[str, Any]] = []
        self.ended = asyncio.Event()

    async def follow(self, caller: str) -> None:
        """Reads a caller's journal to its end, also beyond a restart of the unit."""
        self.entries = await self._whole(caller, self.entries)
        self.ended.set()

    async def read(self, caller: str) -> list[dict[str, Any]]:
        """Returns the whole journal of a caller; what there is of it, if the unit does not answer."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(_GRACE_S):
                await self._whole(caller, found)
        except TimeoutError:
            pass
        return found

    async def end(self, caller: str) -> None:
        """Ends a caller's journal, once it answers."""
        try:
            async with asyncio.timeout(_GRACE_S), self._channel(caller) as channel:
                request = caller_pb2.EndJournalRequest(run=self._run)
                await caller_pb2_grpc.PagesStub(channel).EndJournal(request, wait_for_ready=True)
        except (TimeoutError, grpc.aio.AioRpcError):
            pass  # its calls are then missing, and the checker says so

    async def _whole(self, caller: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        after, rest = 0, b""
        while True:
            try:
                async with self._channel(caller) as channel:
                    request = caller_pb2.ReadJournalRequest(run=self._run, after=after)
                    async for part in caller_pb2_grpc.PagesStub(channel).ReadJournal(request, wait_for_ready=True):
                        after += len(part.lines)
                        *lines, rest = (rest + part.lines).split(b"\n")
                        found += (entry for entry in map(orjson.loads, lines) if "end" not in entry)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(_AGAIN_S)
            else:
                return found

    def _channel(self, caller: str) -> grpc.aio.Channel:
        return open_channel(self._plan.engine.settings["units"][caller], peer=f"caller/{caller}")

    def progress(self, lines: ProgressLines, elapsed_ns: int) -> Any:
        """The calls so far, as a line of progress."""
        calls = [each["call"] for each in self.entries if "call" in each]
        ok = sum(each[_STATUS] == "OK" for each in calls)
        return lines.take(
            elapsed_ns=elapsed_ns, remaining_ns=None, sent=len(calls), done=len(calls), ok=ok, recent_ns=()
        )


def _spool(plan: LoadPlan, journal: _Journal, stop: Stop, began_ns: int) -> ShardResult:
    """Writes the records of this caller's calls, and returns the result of its run."""
    own = [place for caller, _, place in plan.engine.settings["calls"] if caller == plan.caller]
    records = []
    for values in (each["call"] for each in journal.entries if "call" in each):
        page, _, place = values[_ID].rpartition("-")[2].partition(".")
        if place in own:  # else the checker of pages objects to it
            values[_SEQUENCE] = int(page, 16) * len(own) + own.index(place)
            records.append(values)
    records.sort(key=lambda values: values[_SEQUENCE])
    with SpoolWriter(plan.spool) as spool:
        for values in records:
            spool.append(values)
    unix_ns = offset_ns()
    sent = [values[_SENT] - unix_ns for values in records]
    done = [values[_DONE] - unix_ns for values in records]
    return ShardResult(
        planned=len(records),
        sent=len(records),
        ok=sum(values[_STATUS] == "OK" for values in records),
        stopped_by=stop.by,
        offered=None,
        start_ns=min(sent, default=began_ns),
        planned_end_ns=max(sent, default=began_ns),
        last_sent_ns=max(sent, default=began_ns),
        end_ns=max(done, default=began_ns),
        cpu_s=process_time(),
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
        schedule_delays=LatencyHistogram(array("q", (max(0, each[_SENT] - each[_INTENDED]) for each in records))),
        warm_up_errors={},
    )
