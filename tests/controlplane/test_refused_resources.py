"""An Envoy that refuses a resource counts as converged again only once it holds what the control plane has."""

from __future__ import annotations

from collections import deque
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.delta import DeltaStream
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS
from services.controlplane.xds.store import ResourceStore

KEYS = ("rows.v1", "rows.v2")
TYPES = (CLUSTER, ENDPOINTS)


class Envoy:
    """Holds what it accepted, and says on each new stream what it holds.

    Attributes:
        held: type → name → version.
        refuses: whether it refuses what comes.
        is_frozen: whether it takes nothing.
    """

    def __init__(self, store: ResourceStore) -> None:
        self.held: dict[str, dict[str, str]] = {each: {} for each in TYPES}
        self.refuses = self.is_frozen = False
        self._store, self._wanted = store, {CLUSTER: set(KEYS), ENDPOINTS: set[str]()}
        self._sets: dict[str, str] = {}  # cluster → endpoint set
        self._connect()

    def _connect(self) -> None:
        self.subscriber = Subscriber("homepage-sidecar", "sidecar")
        self._stream = DeltaStream(self._store, self.subscriber)
        self._store.add_listener(self._stream)
        self._inbox: deque[discovery_pb2.DeltaDiscoveryResponse] = deque()
        self._unsaid = [
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=each, resource_names_subscribe=sorted(names), initial_resource_versions=self.held[each]
            )
            for each, names in self._wanted.items()
            if names
        ]

    def reconnect(self) -> None:
        """Begins another stream."""
        self._store.discard_listener(self._stream)
        self._connect()

    def step(self) -> bool:
        """Says one thing, or takes one response; returns whether there was something to do."""
        self._inbox += self._stream.responses()
        if self._unsaid:
            self._stream.receive(self._unsaid.pop(0))
        elif self._inbox and not self.is_frozen:
            self._take(self._inbox.popleft())
        else:
            return False
        self._inbox += self._stream.responses()
        return True

    def _take(self, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        answer = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if self.refuses:
            answer.error_detail.CopyFrom(status_pb2.Status(message="not now"))
        else:
            self.held[response.type_url] |= {each.name: each.version for each in response.resources}
            if response.type_url == CLUSTER:
                self._follow({each.name: _endpoint_set(each) for each in response.resources})
        self._stream.receive(answer)

    def _follow(self, sets: dict[str, str]) -> None:
        """Subscribes to the endpoints of its clusters, and no longer to others."""
        before = set(self._sets.values())
        self._sets |= sets
        after = set(self._sets.values())
        if before != after:
            self._unsaid.append(
                discovery_pb2.DeltaDiscoveryRequest(
                    type_url=ENDPOINTS,
                    resource_names_subscribe=sorted(after - before),
                    resource_names_unsubscribe=sorted(before - after),
                )
            )
        self._wanted[ENDPOINTS] = after
        for gone in before - after:
            self.held[ENDPOINTS].pop(gone, None)

    def counts_as_converged(self) -> bool:
        """Whether a publish would take it for one that has applied all."""
        return self.subscriber.applied >= self._store.subscribers.generation

    def assert_it_holds_nothing_old(self) -> None:
        for key, version in self.held[CLUSTER].items():
            cluster = self._store.get(CLUSTER, key)
            assert version == cluster.version, key
            its = self._store.get(ENDPOINTS, cluster.endpoint_set)
            # Without endpoints, the answer is UNAVAILABLE.
            assert self.held[ENDPOINTS].get(cluster.endpoint_set, its.version) == its.version, cluster.endpoint_set


def _endpoint_set(resource: discovery_pb2.Resource) -> str:
    cluster = cluster_pb2.Cluster()
    resource.resource.Unpack(cluster)
    return str(cluster.eds_cluster_config.service_name)


def put(store: ResourceStore, key: str, place: int, port: int) -> None:
    """Moves a key, or changes its endpoints."""
    name = f"ml-cluster-{place}"
    store.update(clusters={key: name}, endpoint_sets={f"{name}/{key}": [f"127.0.0.1:{port}"]})


def settle(envoy: Envoy, *, steps: int = 50) -> None:
    """Lets it go on until there is nothing to do, and looks at each step."""
    for _ in range(steps):
        went_on = envoy.step()
        if envoy.counts_as_converged():
            envoy.assert_it_holds_nothing_old()
        if not went_on:
            return


def played(script: list[tuple[Any, ...]]) -> None:
    store = ResourceStore()
    for key in KEYS:
        put(store, key, 1, 1)
    envoy = Envoy(store)

    settle(envoy)
    for step, *values in script:
        match step:
            case "put":
                put(store, *values)
            case "refuse":
                [envoy.refuses] = values
            case "freeze":
                [envoy.is_frozen] = values
            case "reconnect":
                envoy.reconnect()
            case "steps":
                settle(envoy, steps=values[0])
                continue
        settle(envoy)
    envoy.refuses = envoy.is_frozen = False
    settle(envoy)
    for key in KEYS:
        put(store, key, 3, 9)
    settle(envoy)
    assert envoy.counts_as_converged()
    assert envoy.held[CLUSTER].keys() == set(KEYS)
    envoy.assert_it_holds_nothing_old()


def test_one_that_refuses_endpoints_and_accepts_the_next_update_is_not_converged() -> None:
    store = ResourceStore()
    for key in KEYS:
        put(store, key, 1, 1)
    envoy = Envoy(store)
    settle(envoy)
    assert envoy.counts_as_converged()

    envoy.refuses = True
    put(store, KEYS[0], 1, 2)
    settle(envoy)
    envoy.refuses = False
    put(store, KEYS[1], 1, 3)
    settle(envoy)
    assert not envoy.counts_as_converged()

    envoy.reconnect()
    settle(envoy)
    assert envoy.counts_as_converged()


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(1, 2), st.integers(1, 3)),
    st.tuples(st.just("refuse"), st.booleans()),
    st.tuples(st.just("freeze"), st.booleans()),
    st.tuples(st.just("reconnect")),
    st.tuples(st.just("steps"), st.integers(0, 2)),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(STEPS, min_size=4, max_size=12))
def test_an_envoy_that_counts_as_converged_holds_what_the_control_plane_has(script: list[tuple[Any, ...]]) -> None:
    played(script)
