"""Makes the record of each request and spools it, and counts on the way."""

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
    """Keeps the history of one run.

    Args:
        topology: of all its records.
        spool: takes the records.
        on_error: called once, with the error, when the spool cannot be written; records are lost from then on.

    Attributes:
        done: requests that were sent and are done.
        ok: of those, how many were answered.
        schedule_delays_ns: of those, how late each was sent.
        error: why the spool cannot be written, None if it can.
        unix_offset_ns: makes Unix times of those of ``time.monotonic_ns``. Fixed: a clock that is set while the run
            goes on bends no record. Processes that share a run agree on it before they begin.
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
        """Takes one request; times are those of ``time.monotonic_ns``, 0 for one that was never sent."""
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
        """Whatever was kept is in the file after this."""
        try:
            self._spool.flush()
        except OSError as error:
            self._fail(error)

    def take_recent_ns(self) -> list[int]:
        """Latencies, from the intended times, of what was done since this was last asked."""
        recent, self._recent_ns = self._recent_ns, []
        return recent

    def _fail(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            self._on_error(error)
