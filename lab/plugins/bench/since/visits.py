"""What is done to one checkout in one round: commands, requests over gRPC, and looks at its units' processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lab.errors import UnitError
from lab.plugins.bench.harness import prebuilt_request
from lab.plugins.bench.harness.variant import CALLER, USE_CASE
from lab.runtime.process.family import family

if TYPE_CHECKING:
    from lab.plugins.bench.since.checkout import Checkout

    Seen = Mapping[str, Any]

_RATE, _SECONDS = 300, 8
_PUNCTUAL_RATE, _DRIVER_RATE, _DRIVER_SECONDS = 1_000, 2_000, 5
_LARGE_RATE, _LARGE_SECONDS, _LARGE_BYTES = 20, 4, 4_000_000
_IN_FLIGHT, _BUSY_S, _WARM_UP_S = 32, 2.0, 0.5
_CALLS = 3
_NS_PER_MS, _NS_PER_S = 1e6, 1e9
# Status 1 or 2: a claim does not hold, or is undecided; the figures are there all the same.
_MEASURED = (0, 1, 2)


def mini_lab(checkout: Checkout) -> Seen:
    """The smallest lab, as users start it: seconds of ``lab up`` and of ``lab call``, and memory."""
    with _lab(checkout, "--spec", "mini") as lab:
        calls = [checkout.lab("call", "HomepageRows", "--topology", "mesh", "--json") for _ in range(_CALLS)]
        return lab.seen | {"call_s": median(each.took_s for each in calls)}


def default_lab(checkout: Checkout) -> Seen:
    """The default lab: latency and CPU of each topology, and the requests that keep one gateway busy."""
    with _lab(checkout, "--security", "plaintext") as lab:
        for topology in ("direct", "mesh", "gateway"):
            lab.seen[topology] = _load(lab, topology, "--rate", _RATE, "--duration", _SECONDS)
        return lab.seen | {"gateway_rps_per_core": _busy_gateway(lab)}


def records(checkout: Checkout) -> Seen:
    """The default lab's driver, punctual and busy, ``lab check`` of 10,000 records, and large payloads."""
    with _lab(checkout, "--security", "plaintext") as lab:
        large = ("--rate", _LARGE_RATE, "--duration", _LARGE_SECONDS, "--payload", _LARGE_BYTES)
        large_p50_ms = _load(lab, "direct", *large)["p50_ms"]
        punctual = _load(lab, "direct", "--rate", _PUNCTUAL_RATE, "--duration", _DRIVER_SECONDS)
        run = _load(lab, "direct", "--rate", _DRIVER_RATE, "--duration", _DRIVER_SECONDS)["run_dir"]
        driver = json.loads((Path(run) / "driver.json").read_text())
        checked = checkout.lab("check", run, "--json", statuses=_MEASURED)
        return {
            "large_p50_ms": large_p50_ms,
            "schedule_delay_p99_ms": punctual["schedule_delay_p99_ms"],
            "driver_rps_per_core": driver["sent"] / driver["cpu_s"],
            "check_s": checked.took_s,
        }


def scale(checkout: Checkout) -> Seen:
    """The document of a run of 3,000 clusters."""
    size = ("--clusters", "3000", "--callers", "10", "--use-cases", "600")
    load = ("--rate", "400", "--changes", "20", "--seconds", "2")
    document: Seen = _document(checkout, "scale", *size, *load)
    return document


def large_table(checkout: Checkout) -> Seen:
    """The samples of ``lab bench large-table``, by their names."""
    return _bench(checkout, "large-table")


def convergence(checkout: Checkout) -> Seen:
    """The samples of ``lab bench convergence``, by their names."""
    return _bench(checkout, "convergence")


def _bench(checkout: Checkout, name: str) -> Seen:
    rounds: Seen = _document(checkout, "bench", name, "--rounds", "3")["benches"][0]["rounds"]
    return {what: [each for each in values if each is not None] for what, values in rounds.items()}


def _document(checkout: Checkout, *arguments: str) -> Any:
    return checkout.lab(*arguments, "--json", statuses=_MEASURED).document


@dataclass(frozen=True, slots=True)
class _Lab:
    """A lab that is up: its units that are processes, and what was seen of it."""

    checkout: Checkout
    units: list[Any]
    seen: dict[str, Any]

    def cpu_ns(self) -> dict[str, int]:
        """Nanoseconds on a processor so far, by role; the clock ticks of /proc/PID/stat are too coarse."""
        sums = dict.fromkeys((each["role"] for each in self.units), 0)
        for unit in self.units:
            for pid in family(unit["pid"]):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    sums[unit["role"]] += int((thread / "schedstat").read_text().split()[0])
        return sums


@contextmanager
def _lab(checkout: Checkout, *options: str) -> Iterator[_Lab]:
    """Brings a lab up, and down; sees how long the former took, and the memory of its units."""
    try:
        up = checkout.lab("up", "--runtime", "process", *options)
        units = [each for each in _document(checkout, "status")["units"] if each.get("pid")]
        memory = sum(_pss_bytes(pid) for unit in units for pid in family(unit["pid"]))
        yield _Lab(checkout, units, {"up_s": up.took_s, "memory_mb": memory / 1e6})
    finally:
        checkout.lab("down")


def _pss_bytes(pid: int) -> int:
    """The proportional set size: of a page that n processes share, one n-th."""
    found = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(words[1]) * 1024 for words in found if words[0] == "Pss:")


def _load(lab: _Lab, topology: str, *options: object) -> Seen:
    """The document of a run in which every request was answered, and milliseconds of CPU per request, by role."""
    # One use case without experiment, shadow, stream or edge case, so that all revisions send the same.
    plain = lab.checkout.known("load", "--streams=0", "--edge-every=0")
    same = ("--caller", CALLER, "--use-case", USE_CASE, "--arrivals", "constant", *plain)
    before = lab.cpu_ns()
    run: dict[str, Any] = _document(lab.checkout, "load", "--topology", topology, *same, *map(str, options))
    after = lab.cpu_ns()
    if run["ok"] != run["planned"]:
        raise UnitError(f"{topology}: {run['ok']} of {run['planned']} requests were answered: {run['by_status']}")
    return run | {"cpu_ms": {role: (after[role] - before[role]) / _NS_PER_MS / run["planned"] for role in after}}


def _busy_gateway(lab: _Lab) -> float:
    """Requests per second of its processor time that one gateway answers with many in flight."""
    address = _document(lab.checkout, "endpoints")["gateway"][0]
    gateway = replace(lab, units=[each for each in lab.units if each["address"] == address])
    busy = prebuilt_request.keep_busy(
        address,
        400,
        lambda: sum(gateway.cpu_ns().values()),
        in_flight=_IN_FLIGHT,
        seconds=_BUSY_S,
        warm_up_s=_WARM_UP_S,
    )
    answered, _, cpu_ns = asyncio.run(busy)
    return answered / cpu_ns * _NS_PER_S
