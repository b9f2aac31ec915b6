"""The profile ``endpoint-picker``: a gateway that asks an endpoint picker, tried with one that obeys each check."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.plugins.conform.control import Control, control_of
from lab.plugins.conform.forms import ByHeader
from lab.plugins.conform.models import Model
from lab.plugins.conform.profile import Profile, ProfileOptions
from lab.plugins.conform.run import FIRST_PORT, host_for, tried
from lab.plugins.endpoint_picker.conformance import reference_gateway
from lab.plugins.endpoint_picker.conformance.gateway_checks import CHECKS
from lab.plugins.endpoint_picker.conformance.gateway_stage import NAMES_BY, OUTSIDE, POOL, GatewayStage, lines
from lab.plugins.endpoint_picker.conformance.scripted import ScriptedPicker, picks

if TYPE_CHECKING:
    from lab.plugins.conform.check import Check, Result
    from lab.plugins.conform.models import Script
    from lab.plugins.conform.target import Target

_START_WITHIN_S = 20.0


async def run(
    target: Target,
    options: ProfileOptions,
    *,
    say: Callable[[str], None] = lambda _: None,
    on_result: Callable[[Result], None] = lambda _: None,
    control: Control | None = None,
) -> list[Result]:
    """Starts models and a picker, waits until the gateway asks and obeys it, and tries one check after the other."""
    checks = chosen(options.checks, CHECKS)
    control = control or _control(options.control)
    first = options.first_port or (0 if control else FIRST_PORT)
    host, form = host_for(target), ByHeader(options.header)
    scripts: dict[bytes, Script] = {}
    names = (*POOL, OUTSIDE)
    models = {name: Model(name, host, first and first + 1 + number, scripts, form) for number, name in enumerate(names)}
    stage = GatewayStage(
        target, form, models, scripts, control, ScriptedPicker(f"{host}:{first}", picks(), names_by=NAMES_BY)
    )
    try:
        for model in models.values():
            await model.start()
        await stage.restore()
        needed = stage.needed()
        if options.routes_out is not None:
            options.routes_out.write_text(json.dumps(needed, indent=1) + "\n")
            say(f"pools: {options.routes_out}")
        if control is None:
            for line in lines(needed):
                say(line)
        await stage.ready(options.wait_s if control is None else _START_WITHIN_S)
        return await tried(checks, stage, say=say, on_result=on_result)
    finally:
        await stage.close()
        if control is not None:
            await control.close()
        await asyncio.gather(stage.picker.stop(), *(model.stop() for model in models.values()))


def chosen(names: object, checks: dict[str, Check]) -> list[Check]:
    """The checks of these names; all for none.

    Raises:
        InputError: there is no such check.
    """
    wanted = list(dict.fromkeys(names or checks))  # type: ignore[call-overload] # a sequence of names
    if missing := [each for each in wanted if each not in checks]:
        raise InputError(f"check {missing[0]!r} is not known; there are {', '.join(checks)}")
    return [checks[each] for each in wanted]


def _control(text: str) -> Control | None:
    if not text:
        return None
    return reference_gateway.control() if text == reference_gateway.NAME else control_of(text)


PROFILE = Profile(
    name="endpoint-picker",
    line="a gateway that asks an endpoint picker, with a picker of the checks' own behind it",
    run=run,
)
