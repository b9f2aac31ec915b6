"""Locust's web UI for a run, reachable from this machine only."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import gevent
from flask import abort, request
from locust.stats import stats_history

from lab.errors import InputError
from lab.load.plan import UI_HOST_VARIABLE
from lab.plugins.locust.plan import LOOPBACK, check_free

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.web import WebUI

_AFTER_RESPONSE_S = 0.1
_QUIT_PAGE = """<!doctype html><title>End the run</title>
<form method="post"><button>End the run</button></form>
<p>The history is kept and judged.</p>"""


def open_ui(environment: Environment, port: int, end: Callable[[], None]) -> WebUI:
    """Starts the UI; it listens when this returns.

    Args:
        environment: with its runner.
        port: to listen on.
        end: ends the run; called for STOP and for ``POST /quit``.

    Raises:
        InputError: the port is taken.
    """
    host = os.environ.get(UI_HOST_VARIABLE, LOOPBACK)
    check_free(host, port)
    ui = environment.create_web_ui(host=host, port=port, delayed_start=True)
    assert ui.app is not None  # noqa: S101 (just created)
    names = {f"{name}:{port}" for name in (LOOPBACK, "localhost")}

    @ui.app.before_request
    def only_from_here() -> None:
        """Refuses requests from other sites' pages in a browser on this machine."""
        origin = request.headers.get("Origin")
        if request.host not in names or (origin is not None and urlsplit(origin).netloc not in names):
            abort(403)

    environment.events.test_stop.add_listener(lambda **_: gevent.spawn_later(_AFTER_RESPONSE_S, end))

    @ui.app.get("/quit")
    def ask_whether_to_quit() -> str:
        return _QUIT_PAGE

    @ui.app.post("/quit")
    def quit_() -> str:
        gevent.spawn_later(_AFTER_RESPONSE_S, end)
        return "The run ends.\n"

    ui.start()
    gevent.spawn(stats_history, environment.runner)
    while ui.server is None or not ui.server.started:
        gevent.sleep(0.01)
        if ui.greenlet is not None and ui.greenlet.ready():
            raise InputError(f"ui_port: {port} cannot be listened on; choose another with --ui-port")
    return ui
