"""Makes the record of each request, spools it, and counts."""

from __future__ import annotations

from array import array
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING

from lab.history import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.history import SpoolWriter
    from lab.load.mix import RequestSpec
    from lab.load.outcome import Outcome


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
        self.unix_offset_ns = time_ns() - monotonic_ns()
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
        record = Record(
            sequence=sequence,
            request_id=request_id,
            topology=self._topology,
            use_case=spec.use_case.name,
            payload_bytes=payload_bytes,
            intended_ns=intended_ns + unix,
            sent_ns=sent_ns and sent_ns + unix,
            done_ns=done_ns and done_ns + unix,
            **spec.context,  # type: ignore[arg-type]  # its names are text fields of the record
            **outcome._asdict(),
        )
        if sent_ns:
            self.done += 1
            self.ok += outcome.status == "OK"
            self.schedule_delays_ns.append(sent_ns - intended_ns)
            self._recent_ns.append(done_ns - intended_ns)
        try:
            self._spool.append(record)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Writes all records kept so far to the file."""
        try:
            self._spool.flush()
        except OSError as error:
            self._fail(error)

    def take_recent_ns(self) -> list[int]:
        """Latencies, from the intended times, of the requests done since the last call."""
        recent, self._recent_ns = self._recent_ns, []
        return recent

    def _fail(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            self._on_error(error)
