"""A second opinion on a latency: h2load, a C program that knows nothing of the lab, measures the same path.

It sends a prebuilt gRPC frame over one connection at the times of a script, and reads an answer without parsing it. It
counts from the sending; the lab's driver counts from the intended time, and its clock also runs while Python writes the
request and parses the answer. So h2load's latency is lower, at 0.5 MB by almost half, but by the same on every path:
the two agree on what one path adds to another.

Its option ``--rps`` does not help: above 100 rps it sends bursts, one each 10 ms, in which requests wait for each other
(at 500 rps five at once, which made h2load's p50 at 400 B 1.6 to 1.9 times that of the driver).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import UnitError
from lab.plugins.bench.harness import prebuilt_request
from lab.roles import UNIX
from lab.transport import open_blocking_channel

if TYPE_CHECKING:
    import grpc

PACKAGE = "nghttp2-client"
NOT_MEASURED = f"h2load: not measured: install it with `make h2load`, or install the package {PACKAGE}"

WARM_UP = 5
_IN_FLIGHT = 100
_NICENESS = "-15"  # that of the lab's own driver in a bench
_TIMEOUT_S = 60.0
_OK = 200


@dataclass(slots=True)
class H2Load:
    """h2load on several paths, by name: address, and headers beside gRPC's own.

    It keeps one p50 a round, ms, by path and payload size; NaN for rounds in which it did not measure.
    """

    folder: Path
    paths: dict[str, tuple[str, tuple[tuple[str, str], ...]]]
    p50_ms: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    @staticmethod
    def is_there() -> bool:
        """Whether this machine has h2load."""
        return shutil.which("h2load") is not None

    def measure(self, path: str, payload_bytes: int, *, rate: float, requests: int, number: int) -> None:
        """Sends requests evenly spaced, and keeps the p50 as that of a round, counted from 1.

        Raises:
            UnitError: not every request was answered rightly, as far as the bytes show.
        """
        address, headers = self.paths[path]
        answer_bytes = self._ask_once(path, payload_bytes)
        frame, log, times = (self.folder / name for name in (f"frame-{payload_bytes}", "h2load.tsv", "h2load.times"))
        log.unlink(missing_ok=True)
        everything = requests + WARM_UP
        host = "localhost" if address.startswith(UNIX) else address
        times.write_text(script(f"http://{host}{prebuilt_request.METHOD.path}", rate, everything))
        argv = [
            *(("nice", "-n", _NICENESS) if os.geteuid() == 0 else ()),
            *("h2load", f"--timing-script-file={times}", "--clients=1", f"--max-concurrent-streams={_IN_FLIGHT}"),
            *(f"--data={frame}", f"--log-file={log}"),
            *("--header=content-type: application/grpc", "--header=te: trailers"),
            *(f"--header={name}: {value}" for name, value in headers),
            *((f"--base-uri={address}",) if host != address else ()),
        ]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True, start_new_session=True
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise UnitError(f"h2load on {path} ({address}): {error}") from error
        if data_bytes(done.stdout) != everything * answer_bytes:
            raise UnitError(f"h2load on {path} ({address}): {everything} answers are not of {answer_bytes} B each")
        kept = self.p50_ms.setdefault((path, payload_bytes), [])
        kept += [math.nan] * (number - 1 - len(kept))
        kept.append(p50_of(log.read_text().splitlines(), WARM_UP))

    def _ask_once(self, path: str, payload_bytes: int) -> int:
        """Sends the request that h2load will send, by gRPC; returns the size of the answer on the wire."""
        address, headers = self.paths[path]
        message = prebuilt_request.request(payload_bytes)
        (self.folder / f"frame-{payload_bytes}").write_bytes(prebuilt_request.frame(message))
        with open_blocking_channel(address) as channel:
            rpc: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(prebuilt_request.METHOD.path)
            answer = rpc(message, metadata=headers, timeout=_TIMEOUT_S)
        prebuilt_request.check_answer(address, answer)
        return len(prebuilt_request.frame(answer))


def script(address: str, rate: float, requests: int) -> str:
    """Returns a timing script: when to send each request, ms after the start, and where to."""
    return "".join(f"{1e3 * number / rate:.3f}\t{address}\n" for number in range(requests))


def p50_of(lines: Sequence[str], leave_out: int) -> float:
    """Returns the median latency in a log of h2load, ms, without the first requests, which open flow-control windows.

    A line has the start, µs since the epoch; HTTP status; µs until the end of the response; separated by tabs.

    Raises:
        UnitError: nothing is left, or a status is not 200.
    """
    rows = sorted(tuple(int(column) for column in line.split("\t")[:3]) for line in lines)
    if bad := [status for _, status, _ in rows if status != _OK]:
        raise UnitError(f"h2load: {len(bad)} of {len(rows)} requests ended with HTTP status {bad[0]}")
    if len(rows) <= leave_out:
        raise UnitError(f"h2load: {len(rows)} requests in its log, too few to leave out {leave_out}")
    return statistics.median_low(took_us for _, _, took_us in rows[leave_out:]) / 1e3


def data_bytes(output: str) -> int:
    """Returns the bytes of response bodies that h2load reports; a gRPC failure has none."""
    found = re.search(r"^traffic: .*\((\d+)\) data$", output, re.MULTILINE)
    return int(found[1]) if found else 0
