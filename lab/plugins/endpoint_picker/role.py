"""The picker, and the Envoys that ask it: by headers or with bodies, and what each does without a pick."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.identity import Identity
from lab.identity.envoy import upstream_socket
from lab.plugins.endpoint_picker.contract import DESTINATION
from lab.plugins.endpoint_picker.envoy import HOST_METADATA, REPLIES, cluster, filters
from lab.plugins.endpoint_picker.units import CLOSED, OPEN, PICKER, WITH_BODIES
from lab.roles import ACCESS_LOG, Follows, Placement, Probe, Role, Unit, python
from lab.roles._asked import copies_dropped_by_envoy
from lab.roles._envoy import ENVOY_HEADERS, envoy, envoy_address, secrets_folder, xds_cluster
from lab.routing.headers import PREFILLER, PROVED_CALLER

if TYPE_CHECKING:
    from lab.roles import Layout


def _picker_units(lab: Layout, caller: str) -> Iterator[Unit]:
    if caller:
        return
    port = lab.site.port(PICKER, "grpc")
    argv = python(
        "lab.plugins.endpoint_picker",
        name=PICKER,
        listen=port.bind,
        control_plane=lab.control_plane(PICKER),
        access_log=lab.site.path(PICKER, ACCESS_LOG),
    )
    files, options = lab.picker(PICKER)
    if options:
        options += ["--signal", lab.spec.signal.model_dump_json()]
    yield Unit(PICKER, PICKER, (*argv, *options), port, files=files, pod=PICKER, logs_requests=True)


def _envoy_of(role: str, title: str) -> Role:
    def units(lab: Layout, caller: str) -> Iterator[Unit]:
        if caller:
            return
        address = lab.site.port(PICKER, "grpc").inside
        secrets = secrets_folder(lab, role)
        socket = upstream_socket(secrets, Identity(PICKER, PICKER)) if secrets else None
        yield envoy(
            *(lab, role, role, lab.site.port(role, "grpc")),
            filters=filters(fails_open=role == OPEN, with_bodies=role == WITH_BODIES),
            replies=REPLIES,
            clusters=[cluster(envoy_address(address), xds_cluster(address)["discovery"], socket)],
            metadata=HOST_METADATA,
            obeys_picks=True,
        )

    return Role(
        name=role,
        title=title,
        placement=Placement.ALONE,
        units=units,
        probe=Probe.HTTP_READY,
        follows=Follows.XDS,
        calls_models=True,
        marks_path=True,
        adds_headers=ENVOY_HEADERS | {PROVED_CALLER, DESTINATION, PREFILLER},
        checked_by=("path",),
        copies_dropped=copies_dropped_by_envoy,
        memory_mb=512,
    )


ROLE = Role(
    name=PICKER,
    title="Endpoint picker",
    placement=Placement.ALONE,
    units=_picker_units,
    probe=Probe.CONNECTED,
    follows=Follows.RULES_AND_ENDPOINTS,
    calls_models=True,  # what they report of their load
    checked_by=("served",),
)
OPEN_ENVOY = _envoy_of(OPEN, "Envoy before the picker")
CLOSED_ENVOY = _envoy_of(CLOSED, "Envoy that needs a picker")
BODY_ENVOY = _envoy_of(WITH_BODIES, "Envoy that sends the picker bodies")
