"""The units beside a caller that picks by itself: replica signals, and an Envoy that obeys its picks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lab.errors import SpecError
from lab.pickers import GATEWAY, PICKERS, Chooses
from lab.plugins.endpoint_picker.contract import DESTINATION, NAMESPACE, SERVED
from lab.plugins.endpoint_picker.envoy import HOST_METADATA
from lab.plugins.mesh_picker.units import SIDECAR, SIGNALS
from lab.roles import Follows, Placement, Probe, Role, Unit, python
from lab.roles._asked import copies_dropped_by_envoy
from lab.roles._envoy import ENVOY_HEADERS, envoy
from lab.routing.headers import FORGEABLE

if TYPE_CHECKING:
    from lab.roles import Layout

_SIGNALS_PORT, _SIDECAR_PORT = 9011, 9012
_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"


def _signals_units(lab: Layout, caller: str) -> Iterator[Unit]:
    if not caller:
        return
    made = PICKERS[lab.spec.picker].at(GATEWAY)
    if isinstance(made, Chooses) and (made.follows_kv_events or made.picks_prefillers):
        raise SpecError(
            f"picker {lab.spec.picker}: topology mesh-picker cannot pick by it: callers get neither KV events nor "
            "prefill replicas; leave the topology out, or name another picker"
        )
    name = f"{caller}-{SIGNALS}"
    port = lab.site.port(name, "grpc", caller, _SIGNALS_PORT)
    argv = python(
        "lab.plugins.mesh_picker",
        name=name,
        owner=caller,
        listen=port.bind,
        control_plane=lab.control_plane(name),
        signal=lab.spec.signal.model_dump_json(),
    )
    files, options = lab.picker(name)
    yield Unit(name, SIGNALS, (*argv, *options), port, files=files, pod=caller)


def _sidecar_units(lab: Layout, caller: str) -> Iterator[Unit]:
    if caller:
        name = f"{caller}-{SIDECAR}"
        port = lab.site.port_beside(name, caller, _SIDECAR_PORT)
        yield envoy(lab, name, SIDECAR, port, caller, filters=filters(), metadata=HOST_METADATA, obeys_picks=True)


def filters() -> list[dict[str, Any]]:
    """The filters: the pick becomes metadata, by which the cluster's policy goes; who served goes back to the caller.

    The header itself stays: if Envoy has to ask for a cluster first, the filters see the request twice.
    """
    pick = {"metadata_namespace": NAMESPACE, "key": DESTINATION, "type": "STRING"}
    forgeable = [{"remove": name} for name in FORGEABLE if name != DESTINATION]
    served = {"header": {"key": SERVED, "value": f"%DYNAMIC_METADATA({NAMESPACE}:{SERVED})%"}}
    reported = [{"append": {**served, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]
    return [
        {
            "name": "served",
            "typed_config": {
                "@type": f"{_FILTERS}.header_mutation.v3.HeaderMutation",
                "mutations": {"request_mutations": forgeable, "response_mutations": reported},
            },
        },
        {
            "name": "picked",
            "typed_config": {
                "@type": f"{_FILTERS}.header_to_metadata.v3.Config",
                "request_rules": [{"header": DESTINATION, "on_header_present": pick}],
            },
        },
    ]


SIGNALS_ROLE = Role(
    name=SIGNALS,
    title="Replica signals",
    placement=Placement.BESIDE_CALLER,
    units=_signals_units,
    probe=Probe.CONNECTED,
    follows=Follows.RULES_AND_ENDPOINTS,
    calls_models=True,  # what they report of their load
    checked_by=("picks",),
    port=_SIGNALS_PORT,
)
SIDECAR_ROLE = Role(
    name=SIDECAR,
    title="Sidecars that obey picks",
    placement=Placement.BESIDE_CALLER,
    units=_sidecar_units,
    probe=Probe.HTTP_READY,
    follows=Follows.XDS,
    calls_models=True,
    marks_path=True,
    adds_headers=ENVOY_HEADERS | {DESTINATION},
    checked_by=("path",),
    copies_dropped=copies_dropped_by_envoy,
    takes_plaintext_beside=True,
    port=_SIDECAR_PORT,
)
