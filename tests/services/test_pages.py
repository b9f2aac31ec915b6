"""A caller builds pages: ids by place, a journal of every call, deadlines that shrink, calls that end with the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from lab.client import Endpoints
from lab.errors import InputError
from lab.history.record import FIELDS
from lab.plugins.pages.driver import Retries
from lab.transport import listen, new_server, open_channel
from lab.transport.rpc_logs import RequestLog
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from services.caller.config import CallerConfig
from services.caller.page_builder import PageBuilder
from services.caller.page_journal import KEPT_RUNS, PageJournal
from services.caller.service import LOG_FIELDS, Caller
from tests.disks import fill, mounted
from tests.missing import missing
from tests.parts import ControlPlane, Model, resolver_up, update, use_case
from tests.waiting import eventually

RUN, OTHER = "1f3a90c2", "0badcafe"
ROWS = use_case("rows@v1", callers=("homepage", "search"), retries={"attempts": 2}, timeout="2s")


class Site(NamedTuple):
    """A homepage whose second stage is the page of search, and the model of both."""

    homepage: caller_pb2_grpc.PagesAsyncStub
    search: caller_pb2_grpc.PagesAsyncStub
    folder: Path
    model: Model

    def journal(self, caller: str) -> list[dict[str, Any]]:
        file = self.folder / caller / f"pages-{RUN}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def calls(self, caller: str) -> dict[str, dict[str, Any]]:
        rows = (each["call"] for each in self.journal(caller) if "call" in each)
        return {row[1]: dict(zip(FIELDS, row, strict=True)) for row in rows}


@pytest.fixture
async def site(control_plane: ControlPlane, model: Model, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(control_plane, model, tmp_path) as site:
        yield site


@asynccontextmanager
async def site_of(control_plane: ControlPlane, model: Model, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        resolver = await stack.enter_async_context(resolver_up(control_plane.address, owner=None))
        await control_plane.put_in_force(
            update(1, use_cases={"HomepageRows": ROWS, "SearchRanking": ROWS}, endpoints={"rows.v1": [model.address]}),
            "resolver",
        )
        endpoints = Endpoints({"resolver": (resolver,), "sidecar": (model.address,)})
        search = await stack.enter_async_context(
            pages_of("search", [["SearchRanking"]], endpoints, tmp_path, part_of=("homepage",))
        )
        homepage = await stack.enter_async_context(
            pages_of("homepage", [["HomepageRows"], ["search", "HomepageRows"]], endpoints, tmp_path, search=search)
        )
        channels = [await stack.enter_async_context(open_channel(each)) for each in (homepage, search)]
        of_homepage, of_search = map(caller_pb2_grpc.PagesStub, channels)
        yield Site(of_homepage, of_search, tmp_path, model)


@asynccontextmanager
async def pages_of(
    name: str,
    page: list[list[str]],
    endpoints: Endpoints,
    folder: Path,
    *,
    part_of: tuple[str, ...] = (),
    **callers: str,
) -> AsyncIterator[str]:
    config = CallerConfig(
        name=name,
        topologies=("mesh",),
        endpoints=endpoints,
        apis={},
        page=tuple(map(tuple, page)),
        callers=callers,
        part_of=part_of,
    )
    (folder / name).mkdir()
    log = RequestLog(folder / name / "access.log", LOG_FIELDS)
    caller = Caller(config, log)
    server, _ = new_server()
    caller_pb2_grpc.add_PagesServicer_to_server(PageBuilder(caller, PageJournal(folder / name)), server)
    port = listen(server, "127.0.0.1:0")
    await server.start()
    try:
        async with log.running():
            yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
        await caller.close()


def asked(number: int = 0, **more: Any) -> caller_pb2.GetPageRequest:
    request = caller_pb2.GetPageRequest(page_id=f"{RUN}-{number:08x}", **more)
    request.context.user_id, request.context.caller = "u7", "liar"
    return request


async def test_a_page_has_the_pages_of_other_callers_and_each_id_says_where_it_stands(site: Site) -> None:
    page = await site.homepage.GetPage(asked(44), timeout=5)

    first, search, last = page.sections
    assert [each.request_id for each in page.sections] == [
        f"{RUN}.homepage-0000002c.0.0",
        f"{RUN}-0000002c.1.0",
        f"{RUN}.homepage-0000002c.1.1",
    ]
    [inner] = search.page.sections
    assert inner.request_id == f"{RUN}.search-0000002c.1.0.0.0"
    assert {each.error for each in (first, search, last, inner)} == {""}
    seen = {envelope.request_id: envelope.context for envelope, _ in site.model.seen}
    assert {name: (each.user_id, each.caller) for name, each in seen.items()} == {
        first.request_id: ("u7", "homepage"),
        inner.request_id: ("u7", "search"),
        last.request_id: ("u7", "homepage"),
    }


async def test_every_call_is_in_the_journal_of_its_caller_with_what_it_brought(site: Site) -> None:
    page = await site.homepage.GetPage(asked(1), timeout=5)

    own, of_search = site.calls("homepage"), site.calls("search")
    assert own.keys() == {page.sections[0].request_id, page.sections[2].request_id}
    assert of_search.keys() == {page.sections[1].page.sections[0].request_id}
    for section in page.sections[::2]:
        call = own[section.request_id]
        assert (call["use_case"], call["user_id"], call["caller"], call["status"]) == (
            "HomepageRows",
            "u7",
            "homepage",
            "OK",
        )
        assert call["items_digest"] == section.items_digest != ""
        assert 0 < call["intended_ns"] <= call["sent_ns"] <= call["done_ns"]
    [built] = [each["page"] for each in site.journal("search") if "page" in each]
    assert (built["id"], built["caller"], built["status"]) == (f"{RUN}-00000001.1.0", "search", "OK")


async def test_calls_of_pages_are_in_the_access_log_as_all_others_are(site: Site) -> None:
    await site.homepage.GetPage(asked(1), timeout=5)
    site.model.holds.discard("rows.v1")
    await site.homepage.GetPage(asked(2), timeout=5)

    file = site.folder / "homepage" / "access.log"
    lines = await eventually("the log has both pages", file.read_text, until=lambda text: text.count("\n") == 4)
    logged = [(each["request_id"], each["status"]) for each in map(json.loads, lines.splitlines())]
    assert sorted(logged) == sorted((name, call["status"]) for name, call in site.calls("homepage").items())


async def test_models_get_no_more_time_than_the_page_has_left(site: Site) -> None:
    async def slow() -> None:
        await asyncio.sleep(0.1)

    site.model.before_answer = slow
    await site.homepage.GetPage(asked(), timeout=0.9)

    first, *later = site.model.deadlines_s
    assert first is not None
    assert first <= 0.92
    assert all(each is not None and each <= first - 0.07 for each in later)


@pytest.mark.parametrize(("left", "limited"), [("0", 3), ("1", 1), ("2", 0), (None, 0)])
async def test_the_retries_of_a_page_are_shared_by_its_calls_however_deep(
    site: Site, left: str | None, limited: int
) -> None:
    metadata = () if left is None else (("x-retries-left", left),)
    page = await site.homepage.GetPage(asked(), timeout=5, metadata=metadata)
    assert page.retries == 0
    assert [each.get("x-retries-left") for _, each in site.model.seen].count("0") == limited


@pytest.mark.parametrize(("left", "spent"), [("7", 7), ("0", 0)])
async def test_retries_that_nobody_reports_count_as_made(site: Site, left: str, spent: int) -> None:
    site.model.before_answer = lambda: asyncio.sleep(60)
    metadata = (("x-retries-left", left),)
    page = await site.homepage.GetPage(asked(), timeout=15, metadata=metadata)
    assert [each.error.partition(":")[0] for each in page.sections] == ["DEADLINE_EXCEEDED", "", "DEADLINE_EXCEEDED"]
    assert page.retries == spent


class RetryingModel(Model):
    """A model that fails all it gets, behind a proxy that sends it again unless no retries are left."""

    async def _answered_by(self, envelope: serving_pb2.Envelope, context: Any) -> serving_pb2.AnsweredBy:
        attempts = 1 + (dict(context.invocation_metadata()).get("x-retries-left") != "0")
        await context.send_initial_metadata((("x-envoy-attempt-count", str(attempts)),))
        for _ in range(attempts):
            self.seen.append((envelope, {}))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        raise NotImplementedError


@pytest.mark.parametrize(("percent", "least"), [(10, 0.06), (50, 0.3)])
async def test_with_every_model_failing_pages_add_no_more_retries_than_their_calls_allow(
    control_plane: ControlPlane, tmp_path: Path, percent: int, least: float
) -> None:
    gone, retries = RetryingModel("rows.v1"), Retries(percent, 4)
    async with gone.up(), site_of(control_plane, gone, tmp_path) as site:
        for number in range(60):
            taken = retries.take()
            page = await site.homepage.GetPage(asked(number), timeout=20, metadata=(("x-retries-left", str(taken)),))
            retries.give_back(taken - page.retries, 3)
        made = len(gone.seen) / (60 * 3) - 1
        assert least < made <= percent / 100
        await site.homepage.GetPage(asked(60), timeout=20)  # without a limit each call is made twice
        assert len(gone.seen) == round(60 * 3 * (1 + made)) + 6


async def test_a_number_of_retries_that_is_none_is_refused(site: Site) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="x-retries-left: 'many' is not a whole number") as caught:
        await site.homepage.GetPage(asked(), timeout=5, metadata=(("x-retries-left", "many"),))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_page_that_is_cancelled_ends_its_calls_down_to_the_models(site: Site) -> None:
    ended = 0

    async def until_cancelled() -> None:
        nonlocal ended
        try:
            await asyncio.sleep(60)
        finally:
            ended += 1

    await site.homepage.GetPage(asked(), timeout=5)
    site.model.before_answer = until_cancelled
    before = len(site.model.seen)
    rpc = site.homepage.GetPage(asked(1), timeout=30)
    await eventually("the model has the call", lambda: len(site.model.seen) > before)

    rpc.cancel()

    await eventually("the call at the model has ended", lambda: ended == 1)
    await eventually("it is in the journal", lambda: f"{RUN}.homepage-00000001.0.0" in site.calls("homepage"))
    assert site.calls("homepage")[f"{RUN}.homepage-00000001.0.0"]["status"] == "CANCELLED"


async def test_nothing_is_sent_once_the_time_of_the_page_is_over(site: Site) -> None:
    async def too_slow() -> None:
        await asyncio.sleep(1)

    site.model.before_answer = too_slow
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await site.homepage.GetPage(asked(), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually("the page is in the journal", lambda: any("page" in each for each in site.journal("homepage")))
    assert len(site.model.seen) == 1


async def test_a_part_that_fails_says_why_and_the_others_are_built(site: Site) -> None:
    site.model.holds.discard("rows.v1")
    page = await site.homepage.GetPage(asked(), timeout=5)
    assert [each.error.partition(":")[0] for each in page.sections] == [
        "FAILED_PRECONDITION",
        "",
        "FAILED_PRECONDITION",
    ]
    assert page.sections[1].page.sections[0].error.startswith("FAILED_PRECONDITION")


async def test_a_page_without_an_id_is_in_no_journal(site: Site) -> None:
    page = await site.homepage.GetPage(caller_pb2.GetPageRequest(), timeout=5)
    assert [each.error for each in page.sections] == ["", "", ""]
    assert not list(site.folder.rglob("*.jsonl"))


@pytest.mark.parametrize(
    "page_id", ["x", f"{RUN}-1", f"../{RUN}-00000001", f"{RUN}-00000001." + "1" * 400, f"{RUN}-0000000g"]
)
async def test_an_id_of_another_form_is_refused(site: Site, page_id: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="is not RUN-PAGE") as caught:
        await site.homepage.GetPage(caller_pb2.GetPageRequest(page_id=page_id), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_journal_is_read_while_it_is_written_and_ends_with_the_run(site: Site) -> None:
    await site.homepage.GetPage(asked(), timeout=5)
    reading = aiter(site.homepage.ReadJournal(caller_pb2.ReadJournalRequest(run=RUN), timeout=20))
    first = (await anext(reading)).lines
    await site.homepage.GetPage(asked(1), timeout=5)
    await site.homepage.EndJournal(caller_pb2.EndJournalRequest(run=RUN))
    rest = b"".join([part.lines async for part in reading])

    assert f"{RUN}-00000000".encode() in first
    whole = (site.folder / "homepage" / f"pages-{RUN}.jsonl").read_bytes()
    assert first + rest == whole
    again = site.homepage.ReadJournal(caller_pb2.ReadJournalRequest(run=RUN, after=len(first)), timeout=20)
    assert b"".join([part.lines async for part in again]) == rest
    with pytest.raises(grpc.aio.AioRpcError):  # no page of a run that has been ended
        await site.homepage.GetPage(asked(2), timeout=5)


async def test_a_page_without_room_for_its_journal_fails_with_the_reason_and_leaves_no_torn_line(
    control_plane: ControlPlane, model: Model, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        try:
            disk = stack.enter_context(mounted(tmp_path, 2**22))
        except CalledProcessError as error:
            missing(f"needs root and loop devices: {error.stderr.strip()}")
        resolver = await stack.enter_async_context(resolver_up(control_plane.address, owner=None))
        rules = update(1, use_cases={"HomepageRows": ROWS}, endpoints={"rows.v1": [model.address]})
        await control_plane.put_in_force(rules, "resolver")
        endpoints = Endpoints({"resolver": (resolver,), "sidecar": (model.address,)})
        address = await stack.enter_async_context(pages_of("homepage", [["HomepageRows"]], endpoints, disk))
        pages = caller_pb2_grpc.PagesStub(await stack.enter_async_context(open_channel(address)))
        await pages.GetPage(asked(1), timeout=5)
        filler = fill(disk)

        for number in range(2, 12):  # what is left of the last block takes the first ones
            try:
                await pages.GetPage(asked(number), timeout=5)
            except grpc.aio.AioRpcError as error:
                refused = error
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.details() == f"pages-{RUN}.jsonl cannot be written: No space left on device"
        filler.unlink()
        await pages.GetPage(asked(20), timeout=5)
        await pages.EndJournal(caller_pb2.EndJournalRequest(run=RUN), timeout=5)
        lines = [json.loads(line) for line in (disk / "homepage" / f"pages-{RUN}.jsonl").read_text().splitlines()]
        assert lines[-1] == {"end": True}
        assert {each["page"]["id"] for each in lines if "page" in each} >= {f"{RUN}-00000001", f"{RUN}-00000014"}


def test_a_journal_keeps_the_latest_runs_and_knows_no_path(tmp_path: Path) -> None:
    journal = PageJournal(tmp_path)
    for number in range(KEPT_RUNS + 2):
        journal.keep(f"{number:08x}", {"page": number})
    assert len(list(tmp_path.iterdir())) == KEPT_RUNS
    for run in ("../../x", "", OTHER.upper(), OTHER * 2):
        with pytest.raises(InputError, match="eight hexadecimal digits"):
            journal.keep(run, {})
