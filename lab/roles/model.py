"""Model replicas: stub model servers, several to a cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count, islice, product
from string import ascii_lowercase

from lab.errors import SpecError
from lab.pickers import PICKERS
from lab.roles._metrics import with_metrics
from lab.roles._probe import Probe
from lab.roles._role import Layout, Placement, Role, python
from lab.roles._unit import ARRIVALS, MODEL, Port, Unit
from models.tokens.settings import TokenSettings

MAX_REPLICAS = 2_000
"""Limit for a lab: a replica takes 20 MB."""


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if caller:
        return
    clusters = {**lab.spec.idle_clusters, **lab.table.clusters}
    if (number := sum(clusters.values())) > MAX_REPLICAS:
        raise SpecError(f"clusters: {number:,} replicas are more than a lab can hold; use {MAX_REPLICAS:,} at most")
    for cluster, replicas in clusters.items():
        for name in islice(_names(cluster), replicas):
            yield replica(lab, cluster, name, lab.site.port(name, "grpc", group=cluster))


def replica(lab: Layout, cluster: str, name: str, port: Port) -> Unit:
    """One replica of a model cluster."""
    rest = lab.site.port(name, "rest", group=cluster)
    argv = python(
        "models.stub",
        cluster=cluster,
        replica=name,
        listen=port.bind,
        rest=rest.bind,
        advertise=lab.site.advertised(port),
        control_plane=lab.control_plane(name),
        clients=lab.names_of(lambda role: role.calls_models),
        **({"receipt_key": lab.spec.receipt_key} if lab.spec.receipt_key else {}),
        **lab.spec.stub.model_dump(exclude_defaults=True, exclude={"tokens"}),
        **({"tokens": tokens} if (tokens := TokenSettings.of(lab.spec.stub.tokens).to_text()) else {}),
        **({"report_load": 1} if PICKERS[lab.spec.picker].reports_load else {}),
        arrivals=lab.site.path(name, ARRIVALS),
        **lab.request_log(name),
    )
    unit = Unit(name, MODEL, argv, port, pod=name, cluster=cluster, rest=rest, logs_requests=lab.spec.log_requests)
    return with_metrics(lab, unit)  # one that is added later is in no plan


def new_replica_name(cluster: str, taken: Collection[str]) -> str:
    """The first name for a replica of the cluster that no unit has."""
    return next(name for name in _names(cluster) if name not in taken)


def _names(cluster: str) -> Iterator[str]:
    """``ml-cluster-1-a`` … ``-z``, ``-aa`` …."""
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            yield f"{cluster}-{''.join(letters)}"


ROLE = Role(
    name=MODEL,
    title="Model clusters",
    placement=Placement.REPLICATED,
    units=_units,
    probe=Probe.REGISTERED,
    accounted_as="models",
)
