"""An event loop in a thread beside gevent's hub, and how work goes over and comes back.

Handing over is what costs, so both ways take whatever has come together at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import gevent
import uvloop
from gevent.event import AsyncResult

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


_ENDED_WITHIN_S = 5.0


class LoopThread:
    """Runs one coroutine in a thread of its own. Made and used in gevent's thread, unless said otherwise.

    Attributes:
        ended: set when the coroutine has ended: its result, or its error.
    """

    def __init__(self) -> None:
        self._watcher = gevent.get_hub().loop.async_()
        self._watcher.start(self._take_in_hub)
        self._for_hub: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._for_loop: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._loop_will_look = True  # until there is a loop, which begins with a look
        self.ended = AsyncResult()

    def start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begins."""
        self._thread = threading.Thread(target=self._run, args=(work,), name="event loop", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Cancels the coroutine if it has not ended, and returns once the thread is gone, or after some seconds.

        An interpreter that ends while gRPC is at work in a thread may crash.
        """
        if self._thread is not None:
            self.in_loop(self._cancel)
            gevent.wait([self.ended], timeout=_ENDED_WITHIN_S)
            self._thread.join(_ENDED_WITHIN_S)

    def in_loop(self, call: Callable[..., object], *args: Any) -> None:
        """Calls in the event loop, soon."""
        self._for_loop.append((call, args))
        if not self._loop_will_look:
            self._loop_will_look = True
            assert self._loop is not None  # noqa: S101 (it has looked)
            self._loop.call_soon_threadsafe(self._take_in_loop)

    def in_hub(self, call: Callable[..., object], *args: Any) -> None:
        """Calls in gevent's hub, soon; for the event loop's thread. What is called must not wait."""
        self._for_hub.append((call, args))
        self._watcher.send()

    def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            result = uvloop.run(self._work(work))
        except BaseException as error:  # noqa: BLE001 (whatever it is, somebody waits for it)
            self.in_hub(self.ended.set_exception, error)
        else:
            self.in_hub(self.ended.set, result)

    async def _work(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._take_in_loop()
        try:
            return await work()
        finally:
            self._loop_will_look = True  # it never will again

    def _cancel(self) -> None:
        assert self._task is not None  # noqa: S101 (it calls)
        self._task.cancel()

    def _take_in_loop(self) -> None:
        self._loop_will_look = False  # first: what comes from here on is either seen below, or asks for another look
        while self._for_loop:
            call, args = self._for_loop.popleft()
            call(*args)

    def _take_in_hub(self) -> None:
        while self._for_hub:
            call, args = self._for_hub.popleft()
            call(*args)
