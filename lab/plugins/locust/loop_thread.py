"""An event loop in a thread beside gevent's hub, with calls in both directions.

Crossing threads is expensive, so either side processes all pending calls at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import gevent
import uvloop
from gevent.event import AsyncResult

_ENDED_WITHIN_S = 5.0


class LoopThread:
    """Runs one coroutine in its own thread. Make and use it in gevent's thread, unless said otherwise.

    Attributes:
        ended: set to the coroutine's result or error when it has ended.
    """

    def __init__(self) -> None:
        self._watcher = gevent.get_hub().loop.async_()
        self._watcher.start(self._take_in_hub)
        self._for_hub: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._for_loop: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._loop_will_look = True  # until the loop runs, which begins with the pending calls
        self.ended = AsyncResult()

    def start(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, args=(work,), name="event loop", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Cancels the coroutine if it has not ended, and returns once the thread has, or after some seconds.

        The interpreter may crash if it exits while gRPC works in a thread.
        """
        if self._thread is not None:
            self.in_loop(self._cancel)
            gevent.wait([self.ended], timeout=_ENDED_WITHIN_S)
            self._thread.join(_ENDED_WITHIN_S)

    def in_loop(self, call: Callable[..., object], *args: Any) -> None:
        """Calls a function in the event loop, soon."""
        self._for_loop.append((call, args))
        if not self._loop_will_look:
            self._loop_will_look = True
            assert self._loop is not None  # noqa: S101 (set before the flag is cleared)
            self._loop.call_soon_threadsafe(self._take_in_loop)

    def in_hub(self, call: Callable[..., object], *args: Any) -> None:
        """Calls a function in gevent's hub, soon; for the event loop's thread. The function must not block."""
        self._for_hub.append((call, args))
        self._watcher.send()

    def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            result = uvloop.run(self._work(work))
        except BaseException as error:  # noqa: BLE001 (passed on to the waiting caller)
            self.in_hub(self.ended.set_exception, error)
        else:
            self.in_hub(self.ended.set, result)

    async def _work(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._take_in_loop()
        try:
            return await work()
        finally:
            self._loop_will_look = True  # the loop has ended; calls are dropped

    def _cancel(self) -> None:
        assert self._task is not None  # noqa: S101 (it runs)
        self._task.cancel()

    def _take_in_loop(self) -> None:
        self._loop_will_look = False  # first: a call from here on is either taken below, or wakes the loop again
        while self._for_loop:
            call, args = self._for_loop.popleft()
            call(*args)

    def _take_in_hub(self) -> None:
        while self._for_hub:
            call, args = self._for_hub.popleft()
            call(*args)
