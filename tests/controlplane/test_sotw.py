"""The state-of-the-world stream's bookkeeping: lists that grow and shrink, and from when on a node counts as having
applied what it was sent."""

from __future__ import annotations

import itertools

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2

from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, LISTENER
from services.controlplane.xds.sotw import SotwStream
from services.controlplane.xds.store import ResourceStore

V1, V2 = "cw-ranker.v1", "cw-ranker.v2"
SET_1, SET_2 = f"ml-cluster-1/{V1}", f"ml-cluster-1/{V2}"


class Node:
    """Plays a gRPC client."""

    def __init__(self, store: ResourceStore, caller: str = "homepage") -> None:
        self.subscriber = Subscriber("homepage-proxyless-1", "proxyless")
        self._stream = SotwStream(store, self.subscriber, caller)
        self.nonces: dict[str, str] = {}
        store.add_listener(self._stream)

    def asks(self, type_url: str, *names: str, nonce: str = "", error: str = "") -> None:
        request = discovery_pb2.DiscoveryRequest(type_url=type_url, resource_names=names, response_nonce=nonce)
        if error:
            request.error_detail.CopyFrom(status_pb2.Status(message=error))
        self._stream.receive(request)

    def is_sent(self) -> list[discovery_pb2.DiscoveryResponse]:
        responses = self._stream.responses()
        self.nonces.update((each.type_url, each.nonce) for each in responses)
        return responses

    def takes(self, type_url: str, *names: str) -> None:
        """Asks for resources, is sent them, and acknowledges them."""
        self.asks(type_url, *names, nonce=self.nonces.get(type_url, ""))
        self.is_sent()
        self.acknowledges(type_url, *names)

    def acknowledges(self, type_url: str, *names: str) -> None:
        self.asks(type_url, *names, nonce=self.nonces[type_url])


def routes_in(response: discovery_pb2.DiscoveryResponse) -> list[str]:
    listener = listener_pb2.Listener()
    response.resources[0].Unpack(listener)
    manager = http_connection_manager_pb2.HttpConnectionManager()
    listener.api_listener.api_listener.Unpack(manager)
    return [route.route.cluster for host in manager.route_config.virtual_hosts for route in host.routes]


def clusters_in(response: discovery_pb2.DiscoveryResponse) -> list[str]:
    names = []
    for resource in response.resources:
        cluster = cluster_pb2.Cluster()
        resource.Unpack(cluster)
        names.append(cluster.name)
    return names


@pytest.fixture
def store() -> ResourceStore:
    store = ResourceStore()
    store.update(clusters={V1: "ml-cluster-1"}, endpoint_sets={SET_1: ["127.0.0.1:1"]})
    return store


@pytest.fixture
def node(store: ResourceStore) -> Node:
    node = Node(store)
    node.asks(LISTENER, "models")
    [response] = node.is_sent()
    assert routes_in(response) == [V1]
    node.acknowledges(LISTENER, "models")
    node.takes(CLUSTER, V1)
    node.takes(ENDPOINTS, SET_1)
    return node


def applied(node: Node, store: ResourceStore) -> bool:
    return node.subscriber.applied == store.subscribers.generation


def test_a_route_counts_as_applied_only_once_its_cluster_and_its_endpoints_are(store: ResourceStore) -> None:
    node = Node(store)
    node.asks(LISTENER, "models")
    node.is_sent()
    steps = [(LISTENER, "models"), (CLUSTER, V1), (ENDPOINTS, SET_1)]
    for (type_url, name), (next_type, next_name) in itertools.pairwise(steps):
        node.acknowledges(type_url, name)
        assert not applied(node, store)
        node.asks(next_type, next_name)
        assert not applied(node, store)
        node.is_sent()
        assert not applied(node, store)
    node.acknowledges(ENDPOINTS, SET_1)
    assert applied(node, store)


def test_a_new_key_comes_as_a_route_and_its_cluster_when_the_list_grows(store: ResourceStore, node: Node) -> None:
    assert applied(node, store)
    store.update(clusters={V2: "ml-cluster-1"}, endpoint_sets={SET_2: ["127.0.0.1:2"]})

    [response] = node.is_sent()
    assert routes_in(response) == [V1, V2]
    node.acknowledges(LISTENER, "models")
    # The list grows with the nonce of a response that is long acknowledged.
    node.asks(CLUSTER, V1, V2, nonce=node.nonces[CLUSTER])
    [response] = node.is_sent()
    # A response says all that there is: what it left out would be gone.
    assert clusters_in(response) == [V1, V2]
    node.acknowledges(CLUSTER, V1, V2)
    node.asks(ENDPOINTS, SET_1, SET_2, nonce=node.nonces[ENDPOINTS])
    [response] = node.is_sent()
    assert len(response.resources) == 1
    assert not applied(node, store)
    node.acknowledges(ENDPOINTS, SET_1, SET_2)
    assert applied(node, store)


def test_an_unchanged_resource_is_not_sent_again(node: Node) -> None:
    node.asks(CLUSTER, V1, nonce=node.nonces[CLUSTER])
    node.asks(ENDPOINTS, SET_1, nonce=node.nonces[ENDPOINTS])

    assert node.is_sent() == []


def test_a_resource_that_was_let_go_of_is_sent_when_asked_for_again(node: Node) -> None:
    node.asks(ENDPOINTS, nonce=node.nonces[ENDPOINTS])
    assert node.is_sent() == []

    node.asks(ENDPOINTS, SET_1, nonce=node.nonces[ENDPOINTS])

    assert [each.type_url for each in node.is_sent()] == [ENDPOINTS]


def test_an_empty_list_is_no_wildcard(store: ResourceStore) -> None:
    node = Node(store)
    for type_url in (LISTENER, CLUSTER, ENDPOINTS):
        node.asks(type_url)

    assert node.is_sent() == []


def test_a_removed_key_loses_its_route_and_no_cluster_is_taken_away_by_leaving_it_out(
    store: ResourceStore, node: Node
) -> None:
    store.update(clusters={V2: "ml-cluster-1"}, endpoint_sets={SET_2: ["127.0.0.1:2"]})
    node.is_sent()
    store.update(removed_clusters=[V1], removed_endpoint_sets=[SET_1])

    responses = node.is_sent()

    # Endpoints that are gone are told as none, so that nobody waits.
    assert [each.type_url for each in responses] == [LISTENER, ENDPOINTS]
    assert routes_in(responses[0]) == [V2]


def test_a_move_is_a_new_cluster_and_applied_once_its_endpoints_are(store: ResourceStore, node: Node) -> None:
    store.update(clusters={V1: "ml-cluster-2"}, endpoint_sets={f"ml-cluster-2/{V1}": ["127.0.0.1:3"]})

    assert [each.type_url for each in node.is_sent()] == [CLUSTER]
    node.acknowledges(CLUSTER, V1)
    assert not applied(node, store)
    node.takes(ENDPOINTS, f"ml-cluster-2/{V1}")
    assert applied(node, store)


def test_a_second_move_before_the_first_is_followed_is_waited_for_alone(store: ResourceStore, node: Node) -> None:
    for cluster in ("ml-cluster-2", "ml-cluster-3"):
        store.update(clusters={V1: cluster}, endpoint_sets={f"{cluster}/{V1}": ["127.0.0.1:3"]})
        node.is_sent()
    node.acknowledges(CLUSTER, V1)
    node.takes(ENDPOINTS, f"ml-cluster-3/{V1}")

    assert applied(node, store)


def test_the_last_answer_of_a_type_speaks_for_those_before(store: ResourceStore, node: Node) -> None:
    for port in (2, 3, 4):
        store.update(endpoint_sets={SET_1: [f"127.0.0.1:{port}"]})
        node.is_sent()
    assert not applied(node, store)

    node.acknowledges(ENDPOINTS, SET_1)

    assert applied(node, store)


def test_an_answer_of_one_type_says_nothing_of_another(store: ResourceStore, node: Node) -> None:
    store.update(clusters={V2: "ml-cluster-1"}, endpoint_sets={SET_1: ["127.0.0.1:2"]})
    assert [each.type_url for each in node.is_sent()] == [LISTENER, ENDPOINTS]

    node.acknowledges(ENDPOINTS, SET_1)

    assert not applied(node, store)


def test_a_refusal_is_remembered_with_its_reason_until_a_later_one_is_applied(store: ResourceStore, node: Node) -> None:
    store.update(endpoint_sets={SET_1: ["127.0.0.1:2"]})
    node.is_sent()
    node.asks(ENDPOINTS, SET_1, nonce=node.nonces[ENDPOINTS], error="no such address")
    assert (node.subscriber.refused, node.subscriber.error) == (store.subscribers.generation, "no such address")

    store.update(endpoint_sets={SET_1: ["127.0.0.1:3"]})
    node.is_sent()
    node.acknowledges(ENDPOINTS, SET_1)

    assert node.subscriber.error == ""


def test_a_node_that_lets_go_of_everything_holds_nobody_up(store: ResourceStore, node: Node) -> None:
    store.update(clusters={V2: "ml-cluster-1"}, endpoint_sets={SET_2: ["127.0.0.1:2"]})
    node.is_sent()
    node.asks(LISTENER, nonce=node.nonces[LISTENER])
    node.asks(CLUSTER, nonce=node.nonces[CLUSTER])
    node.asks(ENDPOINTS, nonce=node.nonces[ENDPOINTS])

    assert applied(node, store)


def test_a_caller_has_routes_to_what_it_may_use_and_to_nothing_that_has_no_cluster() -> None:
    may_use = {"homepage": [V1, "rows.v1"], "search": [V2]}
    store = ResourceStore(lambda caller: may_use.get(caller, ()))
    store.update(clusters={V1: "ml-cluster-1", V2: "ml-cluster-1"})

    for caller, keys in {"homepage": [V1], "search": [V2], "nobody": []}.items():
        node = Node(store, caller)
        node.asks(LISTENER, "models")
        assert routes_in(node.is_sent()[0]) == keys

    may_use["search"] = [V1, V2]
    store.update(clusters={})
    assert store.listener("search").routes == {V1, V2}


def test_limits_of_tenants_are_not_for_clients_that_route_by_themselves(store: ResourceStore, node: Node) -> None:
    generation = store.update(tenants={"ads": {"rate": 5}})

    assert node.is_sent() == []
    assert node.subscriber.applied == generation
