"""The fault ``delay``: makes links slower, while they carry bytes."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, LabError
from lab.faults.fault_kind import FaultKind
from lab.faults.observation import Observation, seen, unknown
from lab.faults.settings import SHARE, Number, by_level, number
from lab.links import ROLE as LINK
from lab.plugins.links import control

if TYPE_CHECKING:
    from lab.faults.fault_context import FaultContext
    from lab.faults.state import FaultRecord
    from lab.roles import Unit

_PROBES = 3
_TIMEOUT_S = 25.0
# What an HTTP/2 client begins with: its preface and SETTINGS. A server answers, or one that wants TLS closes.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class Delay(FaultKind):
    """Adds to the delay of links, in both directions."""

    name = "delay"
    summary = "adds to the delay of links between zones"
    past = "delayed"
    targets = "a link, a zone for all links that leave it, or `link` for all"
    settings = (Number("ms", "milliseconds that are added one way, in each direction", 0.1, 10_000, 10.0), SHARE)
    levels = by_level(ms=(1.0, 10.0, 100.0))
    group = "latency"

    def candidates(self, context: FaultContext, target: str, settings: Mapping[str, Any]) -> list[str]:
        """Returns the names of the target's links."""
        del settings
        state = context.state()
        names = [unit.name for unit in state.plan.with_role(LINK)]
        if not names or state.spec.links is None:
            raise InputError(f"delay {target}: this lab has no links; give its spec a section [links]")
        if target in state.spec.links.zones:
            return [name for name in names if name.startswith(f"{target}-to-")]
        if target not in (LINK, *names):
            zones = ", ".join(state.spec.links.zones)
            raise InputError(f"delay {target}: is not a link or zone; there are the zones {zones}; the links {names}")
        return [name for name in names if target in (LINK, name)]

    def prepare(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Returns what each link did before, and how long an answer through it took."""
        units = _units(context, fault)
        before = {name: control.read(unit) for name, unit in units.items()}
        if silent := [name for name, each in before.items() if each is None]:
            raise LabError(f"{silent[0]}: does not answer; start it, or resume it")
        answer_ms = {name: _answer_ms(unit) for name, unit in units.items()}
        return {"before": before, "answer_ms": {name: ms for name, ms in answer_ms.items() if ms is not None}}

    def inject(self, context: FaultContext, fault: FaultRecord) -> Mapping[str, Any]:
        """Changes the delay of each link; what is on its way keeps the one before."""
        for name, unit in _units(context, fault).items():
            before, ms = fault.memory["before"][name], number(fault.settings, "ms")
            slower = {way: {**before[way], "delay_ms": before[way]["delay_ms"] + ms} for way in ("there", "back")}
            control.change(unit, slower)
        return {}

    def observe(self, context: FaultContext, fault: FaultRecord) -> Observation:
        """Checks that answers through each link take longer by half of what was added, or more."""
        before: Mapping[str, float] = fault.memory["answer_ms"]
        probed = {name: _answer_ms(unit) for name, unit in _units(context, fault).items() if name in before}
        now = {name: ms for name, ms in probed.items() if ms is not None}
        if not now:
            return unknown("no link that is hit passes on an answer")
        ms = number(fault.settings, "ms")
        slower = [name for name, each in now.items() if each - before[name] >= ms / 2]
        return seen(
            holds=len(slower) == len(fault.units),
            because=f"{len(slower)} of {len(fault.units)} links are slower by {ms:g} ms one way",
            fastest_before_ms={name: round(each, 3) for name, each in before.items()},
            fastest_ms={name: round(each, 3) for name, each in now.items()},
        )

    def heal(self, context: FaultContext, fault: FaultRecord) -> None:
        """Restores what each link did; one that was started again has forgotten the fault."""
        states = context.states()
        for name, unit in _units(context, fault).items():
            before = fault.memory.get("before", {}).get(name)
            if before and states.get(name) != "exited":
                control.change(unit, before)


def _units(context: FaultContext, fault: FaultRecord) -> dict[str, Unit]:
    return {name: unit for name in fault.units if (unit := context.unit(name)) is not None}


def _answer_ms(link: Unit) -> float | None:
    """Shortest time until a link passes on the first byte, or the end, of its target's answer; None without one."""
    found = []
    address = link.relay.outside if link.relay else ""
    host, _, port = address.rpartition(":")
    for _ in range(_PROBES):
        with suppress(OSError), socket.create_connection((host, int(port)), _TIMEOUT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.perf_counter()
            connection.sendall(_HELLO)
            with suppress(ConnectionResetError):
                connection.recv(1)
            found.append((time.perf_counter() - began) * 1e3)
    return min(found, default=None)


DELAY = Delay()
