"""A gateway under test: pools of models behind it, and a picker that a check tells what to pick."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.errors import UnitError
from lab.plugins.conform.stage import Answer, Stage
from lab.plugins.conform.table import route
from lab.plugins.endpoint_picker.conformance.scripted import Behaviour, ScriptedPicker, Seen, picks

if TYPE_CHECKING:
    from lab.plugins.conform.control import Control
    from lab.plugins.conform.forms import ByHeader
    from lab.plugins.conform.models import Model, Script
    from lab.plugins.conform.target import Target

OPEN, CLOSED, SUBSET_KEY = "pool-open.v1", "pool-closed.v1", "pool-subset.v1"
"""Routing keys of the three pools: FailOpen, FailClose, and one of which the gateway tells the picker a subset."""
POOL, OUTSIDE, OF_SUBSET = ("a", "b", "c"), "outside", "b"
"""Models in every pool, one in none, and the one of the subset."""
NAMES_BY = "x-conform-request"
"""Header that tells requests apart, as the picker sees no body."""
FAILS_WITHIN_S = 5.0
"""Time in which a gateway must go on, or refuse, without a picker that answers."""
_PAUSE_S = 0.05


class GatewayStage(Stage):
    """Sends requests through the gateway, and scripts its picker.

    Attributes:
        picker: that the gateway asks.
    """

    def __init__(
        self,
        target: Target,
        form: ByHeader,
        models: Mapping[str, Model],
        scripts: dict[bytes, Script],
        control: Control | None,
        picker: ScriptedPicker,
    ) -> None:
        super().__init__(target, form, models, scripts, control, [route(key, *POOL) for key in (OPEN, CLOSED)])
        self.picker = picker
        self._applied = False

    def endpoints(self, *names: str) -> tuple[str, ...]:
        """The addresses of models."""
        return tuple(self.models[each].address for each in names)

    def pick(self, *names: str, metadata: str | None = None) -> None:
        """Lets the picker pick these models from now on."""
        other = None if metadata is None else self.models[metadata].address
        self.picker.behave = picks(*self.endpoints(*names), metadata=other)

    async def ask(self, key: str = OPEN, payload: bytes = b"", **options: Any) -> tuple[Answer, Seen | None]:
        """One request: its answer, and what the picker has seen of it once the gateway has told it all."""
        name = self.request_id().hex()
        metadata = ((NAMES_BY, name), *options.pop("metadata", ()))
        answer = await self.call(key, payload, metadata=metadata, **options)
        until = time.monotonic() + 1
        while True:
            seen = self.picker.seen.get(name)
            if seen is None or seen.served or time.monotonic() > until:
                return answer, seen
            await asyncio.sleep(_PAUSE_S)

    async def while_picker(self, behave: Behaviour, key: str) -> tuple[Answer, float]:
        """A request while the picker behaves so: its answer, and how long it took, seconds."""
        self.picker.behave = behave
        answer = await self.call(key, timeout=FAILS_WITHIN_S + 1, metadata=((NAMES_BY, self.request_id().hex()),))
        return answer, answer.done - answer.sent

    async def restore(self) -> None:
        """The gateway configured once, the picker up; returns once the gateway asks it and sends where it says."""
        await self.picker.start()
        if self.control is not None and not self._applied:
            await self.control.apply(self.needed())
            self._applied = True

    async def ready(self, within_s: float) -> None:
        """Waits until the gateway asks the picker about requests, and sends them somewhere.

        Raises:
            UnitError: it does not in time; says what is wrong.
        """
        deadline = time.monotonic() + within_s
        while True:
            self.pick("a")
            name = self.request_id().hex()
            answers = [await self.call(key, metadata=((NAMES_BY, name),)) for key in (OPEN, CLOSED)]
            if all(each.ok for each in answers) and name in self.picker.seen:
                return
            if time.monotonic() > deadline:
                asked = "it asks the picker" if name in self.picker.seen else "it does not ask the picker"
                last = next((each for each in answers if not each.ok), answers[0])
                raise UnitError(
                    f"{self.target.address}: not ready within {within_s:g} s: last {last}, and {asked}; configure what "
                    "is printed above or what --routes-out writes, or see --control"
                )
            await asyncio.sleep(_PAUSE_S)

    def needed(self) -> dict[str, Any]:
        """What the gateway must have, as JSON: pools of endpoints by routing key, and the picker of all."""
        endpoints = [{"model": name, "address": self.models[name].address} for name in POOL]
        pool: dict[str, Any] = {"endpoints": endpoints, "picker": self.picker.address}
        return {
            "address": self.target.address,
            "header": self.form.described,
            "pools": {
                OPEN: {**pool, "failure": "FailOpen"},
                CLOSED: {**pool, "failure": "FailClose"},
                SUBSET_KEY: {**pool, "failure": "FailClose", "subset": list(self.endpoints(OF_SUBSET))},
            },
        }


def lines(needed: Mapping[str, Any]) -> Sequence[str]:
    """The same for people."""
    found = ["the gateway must have these pools; models speak HTTP/2, the picker ext_proc, both in plaintext"]
    for key, pool in needed["pools"].items():
        endpoints = ", ".join(each["address"] for each in pool["endpoints"])
        subset = f", tells the picker the subset {json.dumps(pool['subset'])}" if "subset" in pool else ""
        found.append(
            f"  {needed['header']}: {key} → picker {pool['picker']}, {pool['failure']}, pool {endpoints}{subset}"
        )
    return found
