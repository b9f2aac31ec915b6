"""The records of a run: made, spooled and counted."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from lab.client.outcome import Outcome, record_values
from lab.clock import offset_ns
from lab.history import UNSENT

if TYPE_CHECKING:
    from lab.client import Answer
    from lab.history import SpoolWriter
    from lab.load.mix import RequestSpec


class LoadClient(Protocol):
    """The client that requests are sent through; :class:`lab.client.Client` is one."""

    @property
    def copies_dropped(self) -> int:
        """Number of shadow copies that it did not send, as too many were in flight."""

    async def ready(self) -> None:
        """Returns once requests can be sent."""

    async def call(self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str) -> Answer:
        """Sends one request. Fills and serialises ``request`` without yielding, so that calls may share it.

        Raises:
            CallError: it failed.
        """

    def stream(
        self, use_case: str, request: Any, context: Mapping[str, str], *, request_id: str
    ) -> AsyncIterator[Answer]:
        """Sends one request, as :meth:`call` does, and yields an answer for each item."""

    async def close(self) -> None:
        """Closes all connections."""


NEVER_SENT = Outcome(UNSENT, "the driver was stopped before its turn", attempts=0)


class Recorder:
    """Records the history of one run.

    Args:
        topology: of all its records.
        spool: takes the records.
        on_error: called once with the error if the spool cannot be written; later records are lost.

    Attributes:
        done: requests that were sent and are done.
        ok: how many of those were answered.
        schedule_delays_ns: how late each of those was sent.
        error: why the spool cannot be written, None if it can.
        unix_offset_ns: offset of Unix time to ``time.monotonic_ns``. It is fixed for the run, so that a change of the
            clock affects no record. Processes that share a run agree on it beforehand.
    """

    def __init__(self, topology: str, spool: SpoolWriter, on_error: Callable[[OSError], None]) -> None:
        self._topology, self._spool, self._on_error = topology, spool, on_error
        self.unix_offset_ns = offset_ns()
        self._recent_ns: list[int] = []
        self.done = self.ok = 0
        self.schedule_delays_ns = array("q")
        self.error: OSError | None = None

    def keep(
        self,
        sequence: int,
        spec: RequestSpec,
        outcome: Outcome,
        *,
        payload_bytes: int,
        intended_ns: int,
        sent_ns: int = 0,
        done_ns: int = 0,
        request_id: str = "",
    ) -> None:
        """Records one request; times are on ``time.monotonic_ns``, 0 if it was never sent."""
        unix = self.unix_offset_ns
        values = record_values(
            outcome,
            spec.context,
            sequence=sequence,
            request_id=request_id,
            topology=self._topology,
            use_case=spec.use_case.name,
            payload_bytes=payload_bytes,
            intended_ns=intended_ns + unix,
            sent_ns=sent_ns and sent_ns + unix,
            done_ns=done_ns and done_ns + unix,
        )
        if sent_ns:
            self.done += 1
            self.ok += (answered := outcome.status == "OK")
            self.schedule_delays_ns.append(sent_ns - intended_ns)
            if answered and not outcome.streamed:
                self._recent_ns.append(done_ns - intended_ns)
        try:
            self._spool.append(values)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Writes all records kept so far to the file."""
        try:
            self._spool.flush()
        except OSError as error:
            self._fail(error)

    def take_recent_ns(self) -> list[int]:
        """Latencies, from the intended times, of the requests answered since the last call, without streams."""
        recent, self._recent_ns = self._recent_ns, []
        return recent

    def _fail(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            self._on_error(error)
