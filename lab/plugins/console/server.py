"""Serves the page to the person who started it: on the loopback alone, by a token, and with nothing from elsewhere."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from lab.errors import InputError, LabError
from lab.plugins.console.page import content_policy, page, page_with
from lab.reading import parse_json

if TYPE_CHECKING:
    from lab.plugins.console.actions import Actions
    from lab.plugins.console.board import Board

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOPBACK = "127.0.0.1"

SEND_S = 0.25
"""Interval at which changes are sent."""

_HEADER = "X-Lab-Console"
"""Of requests that change something. A page elsewhere cannot send it without asking first, which is not answered."""

_ENTRY = "/enter"
_MOST_BYTES = 10_000
_QUEUED = 40  # messages; a page that is further behind gets everything again


class Console:
    """The server of one page.

    Args:
        board: what the page shows.
        port: 0 for a free one.
        actions: runs what buttons ask for; None for a page that only shows.
        story: tells a request by its id, as JSON.

    Attributes:
        token: that a browser sends once, from a form, and then has as a cookie.
    """

    def __init__(
        self,
        board: Board,
        port: int = 0,
        actions: Actions | None = None,
        story: Callable[[str], dict[str, Any]] | None = None,
    ) -> None:
        self.token = secrets.token_urlsafe(24)
        self._board, self._port, self._actions, self._story = board, port, actions, story
        self._pages: set[asyncio.Queue[bytes]] = set()
        self._app = web.Application(middlewares=[self._guard], client_max_size=_MOST_BYTES)
        self._app.router.add_get("/", self._page)
        self._app.router.add_post(_ENTRY, self._page)
        self._app.router.add_get("/stream", self._stream)
        self._app.router.add_get("/request", self._request)
        self._app.router.add_get("/export", self._export)
        if actions is not None:
            self._app.router.add_post("/act", self._act)
        board.post("lab", {"control": actions is not None})

    @property
    def address(self) -> str:
        """Where a browser opens the page."""
        return f"http://{LOOPBACK}:{self._port}/"

    def write_door(self, path: Path) -> None:
        """Writes a file that opens the page in a browser, for this user alone: anyone can read command lines."""
        path.touch(mode=0o600)
        path.write_text(_form(self.address, self.token))

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serves until it is cancelled; calls ``ready`` once a browser can connect.

        Raises:
            OSError: the port is taken.
        """
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, LOOPBACK, self._port)
        try:
            await site.start()
            self._port = runner.addresses[0][1]
            ready()
            while True:
                await asyncio.sleep(SEND_S)
                self._send()
        finally:
            if self._actions is not None:
                await self._actions.close()
            await runner.cleanup()

    def _send(self) -> None:
        changes = self._board.take_changes()
        for queue in self._pages if changes else ():
            if queue.qsize() >= _QUEUED:
                while not queue.empty():
                    queue.get_nowait()
                changes = self._board.everything()
            queue.put_nowait(changes or b"")

    # -- who may ask ---------------------------------------------------------------------------------------------

    @property
    def _hosts(self) -> tuple[str, ...]:
        return f"{LOOPBACK}:{self._port}", f"localhost:{self._port}"

    @property
    def _cookie(self) -> str:
        """Name of the cookie. Cookies do not tell ports apart, and another lab may have its console, too."""
        return f"lab-console-{self._port}"

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses other hosts' names, which a page elsewhere may point here, and requests without the token."""
        if request.host not in self._hosts:
            raise web.HTTPMisdirectedRequest(text=f"this is {self._hosts[0]}, not {request.host!r}\n")
        is_entry = request.method == "POST" and request.path == _ENTRY
        shown = str((await request.post()).get("token", "")) if is_entry else request.cookies.get(self._cookie, "")
        if not compare_digest(shown.encode(errors="replace"), self.token.encode()):
            raise web.HTTPForbidden(text=_form(self.address, ""), content_type="text/html")
        own = f"http://{request.host}", "1"
        if (
            request.method not in {"GET", "HEAD"}
            and not is_entry
            and (request.headers.get("Origin"), request.headers.get(_HEADER)) != own
        ):
            raise web.HTTPForbidden(text="only the console's own page may do this\n")
        return await handler(request)

    # -- what it serves ------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.Response:
        del request
        document = page()
        response = web.Response(text=document, content_type="text/html", headers=_headers(content_policy(document)))
        response.set_cookie(self._cookie, self.token, httponly=True, samesite="Strict", path="/")
        return response

    async def _export(self, request: web.Request) -> web.Response:
        """The page as one file, with all that it shows now."""
        del request
        headers = {"Content-Disposition": 'attachment; filename="console.html"', **_headers("default-src 'none'")}
        return web.Response(text=page_with(self._board.everything()), content_type="text/html", headers=headers)

    async def _request(self, request: web.Request) -> web.Response:
        """The story of the request that ``?id=`` names."""
        try:
            assert self._story is not None  # noqa: S101 (a page without runs has no requests)
            document = await asyncio.to_thread(self._story, request.query.get("id", ""))
        except LabError as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.Response(body=orjson.dumps(document), content_type="application/json")

    async def _act(self, request: web.Request) -> web.Response:
        """Runs what a button asks for: ``{"action": NAME, "values": {…}}``, ``{"stop": JOB}`` or ``{"pause": JOB}``."""
        assert self._actions is not None  # noqa: S101 (else there is no such route)
        try:
            asked = parse_json(await request.text())
            if "stop" in asked:
                self._actions.stop(str(asked["stop"]))
                return web.json_response({})
            if "pause" in asked:
                self._actions.pause(str(asked["pause"]))
                return web.json_response({})
            values = {str(name): str(value) for name, value in asked["values"].items()}
            return web.json_response({"job": await self._actions.act(str(asked["action"]), values)})
        except InputError as error:
            return web.json_response({"error": str(error)}, status=400)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return web.json_response({"error": f"no action of the page: {error!r}"}, status=400)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Sends everything, then changes, as server-sent events."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_headers("default-src 'none'")})
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._send()
        self._pages.add(queue)
        try:
            await response.write(_event(self._board.everything()))
            while True:
                await response.write(_event(await queue.get()))
        except ConnectionError:
            return response  # the page was closed
        finally:
            self._pages.discard(queue)


def _form(address: str, token: str) -> str:
    """A page that asks for the token; with one, it sends it at once."""
    send = "<script>document.forms[0].submit()</script>" if token else ""
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>lab console</title>'
        "<style>body{font:16px system-ui;margin:3rem}</style>"
        f'<form method="post" action="{address.rstrip("/")}{_ENTRY}">'
        f"<label>The token that `lab console` printed: "
        f'<input name="token" type="password" autofocus value="{escape(token)}"></label> <button>Open</button></form>'
        f"{send}"
    )


def _event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
