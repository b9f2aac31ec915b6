"""The kinds of faults that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.errors import InputError
from lab.faults.cold_start import Churn, Cold
from lab.faults.config_faults import BadPush
from lab.faults.flood import Flood
from lab.faults.process_faults import ControlPlaneLoss, Kill, Partition, Pause
from lab.faults.stub_faults import Error, Slow

if TYPE_CHECKING:
    from lab.faults.kind import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (Kill(), Pause(), Partition(), Slow(), Error(), Flood(), ControlPlaneLoss(), BadPush(), Cold(), Churn())
}
"""Name → kind."""


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises:
        InputError: there is none.
    """
    if name not in KINDS:
        raise InputError(f"{name!r} is no kind of fault; there are {', '.join(KINDS)} (see `lab fault list`)")
    return KINDS[name]
