"""Requests in flight: each is sent, cancelled at its timeout, and reduced to an outcome."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from lab.errors import CallError
from lab.load.outcome import answered, broken, failed, stopped, timed_out
from models.apis import APIS

if TYPE_CHECKING:
    from lab.load.mix import RequestSpec
    from lab.load.outcome import LoadClient, Outcome

NS = 1_000_000_000

_log = logging.getLogger(__name__)


class InFlight:
    """Sends requests and tracks those in flight.

    Args:
        client: ready and warmed up.
        timeout_s: a request without an answer by then is cancelled, seconds.
    """

    def __init__(self, client: LoadClient, timeout_s: float) -> None:
        self._client, self._timeout_s = client, timeout_s
        self._tasks: dict[int, tuple[int, asyncio.Task[None]]] = {}  # in order of sending, and so of timeout
        self._timed_out: set[int] = set()
        self._logged = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def call(self, sequence: int, spec: RequestSpec, message: Any, *, request_id: str, sent_ns: int) -> Outcome:
        """Sends one request, in a task of its own; returns an outcome in every case and never raises.

        Args:
            sequence: number of the request.
            spec: use case and context.
            message: the request without its envelope.
            request_id: of the request.
            sent_ns: now, on ``time.monotonic_ns``.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (for the type checker: a coroutine has a task)
        self._tasks[sequence] = (sent_ns, task)
        use_case = spec.use_case
        try:
            answer = await self._client.call(use_case.name, message, spec.context, request_id=request_id)
            return answered(answer, APIS[use_case.api])
        except CallError as error:
            return failed(error)
        except asyncio.CancelledError:
            late = sequence in self._timed_out
            return timed_out(use_case.name, self._timeout_s) if late else stopped(use_case.name)
        except Exception as error:  # noqa: BLE001 (a bug in the client must not lose the record)
            self._log_once(error)
            return broken(error)
        finally:
            del self._tasks[sequence]

    def give_up_late(self) -> None:
        """Cancels requests over their timeout; call it every few milliseconds."""
        sent_too_long_ago_ns = monotonic_ns() - round(self._timeout_s * NS)
        for sequence, (sent_ns, task) in self._tasks.items():
            if sent_ns > sent_too_long_ago_ns:
                break
            if sequence not in self._timed_out:
                self._timed_out.add(sequence)
                task.cancel()

    def give_up_all(self) -> None:
        """Cancels all requests."""
        for _, task in self._tasks.values():
            task.cancel()

    def _log_once(self, error: Exception) -> None:
        if not self._logged:
            self._logged = True
            _log.error("a call broke, and so may others", exc_info=error)
