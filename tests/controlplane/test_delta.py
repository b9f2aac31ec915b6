"""The delta stream's bookkeeping: what is sent, and from when on a node counts as having applied it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from envoy.config.core.v3 import extension_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2

from lab.routing.resilience import Outliers, Policy
from services.controlplane.nodes.subscribers import Subscriber
from services.controlplane.xds.delta import DeltaStream
from services.controlplane.xds.idle_clusters import IdleClusters
from services.controlplane.xds.names import NAME as NAMES
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS, EXTENSION, empty_cluster, endpoints
from services.controlplane.xds.store import ResourceStore
from services.controlplane.xds.tenants import tenant_limits

KEY = "cw-ranker.v1"


class Node:
    """Plays Envoy."""

    def __init__(
        self, store: ResourceStore, caller: str | None = None, *, shared: bool = False, most_unasked: int = 0
    ) -> None:
        self.subscriber = Subscriber("homepage-sidecar", "sidecar")
        idle = IdleClusters(after_s=1.0, now_s=itertools.count(step=10.0).__next__)
        self._stream = DeltaStream(
            store, self.subscriber, caller=caller, shared=shared, idle=idle, most_unasked=most_unasked
        )
        store.add_listener(self._stream)

    def asks(self, type_url: str, *names: str, holding: dict[str, str] | None = None) -> None:
        self._stream.receive(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url, resource_names_subscribe=names, initial_resource_versions=holding or {}
            )
        )

    def asks_for_all(self, *names: str, holding: dict[str, str] | None = None) -> None:
        """Asks for all clusters, or for the wildcard and others, once it has its names."""
        self.asks(EXTENSION, NAMES)
        self.is_sent()
        self.asks(CLUSTER, *names, holding=holding)

    def forgets(self, type_url: str, name: str) -> None:
        self._stream.receive(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_unsubscribe=[name]))

    def reports(self, used: dict[str, bool]) -> None:
        self._stream.reported(used)

    def is_sent(self) -> list[tuple[str, list[str], str]]:
        return [
            (each.type_url, [resource.name for resource in each.resources], each.nonce)
            for each in self._stream.responses()
        ]

    def takes(self, type_url: str, name: str) -> None:
        """Asks for a resource that it does not have, is sent it alone, and acknowledges it."""
        self.asks(type_url, name)
        [(_, _, nonce)] = self.is_sent()
        self.acknowledges(type_url, nonce)

    def versions_sent(self) -> dict[str, str]:
        return {resource.name: resource.version for each in self._stream.responses() for resource in each.resources}

    def acknowledges(self, type_url: str, nonce: str, error: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
        if error:
            request.error_detail.CopyFrom(status_pb2.Status(message=error))
        self._stream.receive(request)


@pytest.fixture
def store() -> ResourceStore:
    store = ResourceStore()
    store.update(clusters={KEY: "ml-cluster-1"}, endpoint_sets={f"ml-cluster-1/{KEY}": ["127.0.0.1:1", "127.0.0.1:2"]})
    return store


@pytest.fixture
def node(store: ResourceStore) -> Node:
    return Node(store)


def _holds_the_key(node: Node) -> None:
    node.takes(CLUSTER, KEY)
    node.takes(ENDPOINTS, f"ml-cluster-1/{KEY}")


def test_nothing_is_sent_unasked(store: ResourceStore, node: Node) -> None:
    store.update(clusters={"rows.v1": "ml-cluster-3"})

    assert node.is_sent() == []
    assert node.subscriber.applied == store.subscribers.generation


def test_a_cluster_counts_as_applied_only_once_its_endpoints_are(store: ResourceStore, node: Node) -> None:
    node.asks(CLUSTER, KEY)
    assert node.is_sent() == [(CLUSTER, [KEY], "1")]
    assert node.subscriber.applied < store.subscribers.generation

    node.acknowledges(CLUSTER, "1")
    assert node.subscriber.applied < store.subscribers.generation

    node.asks(ENDPOINTS, f"ml-cluster-1/{KEY}")
    assert node.is_sent() == [(ENDPOINTS, [f"ml-cluster-1/{KEY}"], "2")]
    assert node.subscriber.applied < store.subscribers.generation

    node.acknowledges(ENDPOINTS, "2")
    assert node.subscriber.applied == store.subscribers.generation


def test_what_a_node_asks_for_takes_back_nothing_that_it_has_applied_but_the_next_generation_waits_for_it(
    store: ResourceStore, node: Node
) -> None:
    store.update(clusters={"rows.v1": "ml-cluster-3"}, endpoint_sets={"ml-cluster-3/rows.v1": ["127.0.0.1:5"]})
    _holds_the_key(node)
    generation = store.subscribers.generation
    store.subscribers.add(node.subscriber)

    node.asks(CLUSTER, "rows.v1")
    [(_, _, asked)] = node.is_sent()
    assert node.subscriber.applied == generation
    assert [each.node for each in store.subscribers.acknowledgements(generation, 1)] == ["homepage-sidecar"]

    store.update(clusters={"fraud.v1": "ml-cluster-4"})  # of no concern to it
    assert node.is_sent() == []
    assert node.subscriber.applied == generation
    node.acknowledges(CLUSTER, asked)
    node.asks(ENDPOINTS, "ml-cluster-3/rows.v1")
    [(_, _, nonce)] = node.is_sent()
    assert node.subscriber.applied == generation
    node.acknowledges(ENDPOINTS, nonce)
    assert node.subscriber.applied == store.subscribers.generation


def test_a_node_that_comes_back_with_old_resources_has_applied_nothing_until_it_is_sent_new_ones(
    store: ResourceStore, node: Node
) -> None:
    node.takes(EXTENSION, "keys")
    assert node.subscriber.applied == store.subscribers.generation

    node.asks(CLUSTER, KEY, holding={KEY: "old"})
    assert node.subscriber.applied == 0
    [(_, _, nonce)] = node.is_sent()
    assert node.subscriber.applied < store.subscribers.generation
    node.acknowledges(CLUSTER, nonce)
    node.asks(ENDPOINTS, f"ml-cluster-1/{KEY}", holding={f"ml-cluster-1/{KEY}": "old"})
    [(_, _, nonce)] = node.is_sent()
    assert node.subscriber.applied < store.subscribers.generation
    node.acknowledges(ENDPOINTS, nonce)
    assert node.subscriber.applied == store.subscribers.generation


def test_a_move_is_sent_as_a_new_cluster_and_applied_once_the_new_endpoints_are(
    store: ResourceStore, node: Node
) -> None:
    _holds_the_key(node)

    generation = store.update(clusters={KEY: "ml-cluster-2"}, endpoint_sets={f"ml-cluster-2/{KEY}": ["127.0.0.1:3"]})

    [(type_url, names, nonce)] = node.is_sent()
    assert (type_url, names) == (CLUSTER, [KEY])
    node.acknowledges(CLUSTER, nonce)
    assert node.subscriber.applied < generation
    node.takes(ENDPOINTS, f"ml-cluster-2/{KEY}")
    assert node.subscriber.applied == generation


def test_a_change_of_replicas_is_an_endpoints_update_alone(store: ResourceStore, node: Node) -> None:
    _holds_the_key(node)

    store.update(endpoint_sets={f"ml-cluster-1/{KEY}": ["127.0.0.1:1"]})

    assert [(type_url, names) for type_url, names, _ in node.is_sent()] == [(ENDPOINTS, [f"ml-cluster-1/{KEY}"])]


def test_a_change_of_settings_brings_the_endpoints_that_the_cluster_is_warmed_with(
    store: ResourceStore, node: Node
) -> None:
    _holds_the_key(node)

    policy = Policy(outliers=Outliers(errors=5, eject_s=10, at_most=50))
    generation = store.update(clusters={KEY: "ml-cluster-1"}, policies={KEY: policy})

    [(_, clusters, first), (_, endpoints, second)] = node.is_sent()
    assert (clusters, endpoints) == ([KEY], [f"ml-cluster-1/{KEY}"])
    node.acknowledges(CLUSTER, first)
    assert node.subscriber.applied < generation
    node.acknowledges(ENDPOINTS, second)
    assert node.subscriber.applied == generation


def test_what_has_not_changed_is_not_sent_again(store: ResourceStore, node: Node) -> None:
    _holds_the_key(node)

    store.update(endpoint_sets={f"ml-cluster-1/{KEY}": ["127.0.0.1:2", "127.0.0.1:1"]})

    assert node.is_sent() == []


def test_an_unknown_key_is_answered_with_an_empty_cluster_and_replaced_when_it_appears(
    store: ResourceStore, node: Node
) -> None:
    node.asks(CLUSTER, "rows.v9")
    assert [names for _, names, _ in node.is_sent()] == [["rows.v9"]]

    store.update(clusters={"rows.v9": "ml-cluster-3"})

    assert [names for _, names, _ in node.is_sent()] == [["rows.v9"]]


def test_a_removed_key_becomes_empty_and_comes_back_unasked(store: ResourceStore, node: Node) -> None:
    _holds_the_key(node)

    store.update(removed_clusters=[KEY])
    assert [names for _, names, _ in node.is_sent()] == [[KEY]]

    store.update(clusters={KEY: "ml-cluster-1"})
    assert [names for _, names, _ in node.is_sent()] == [[KEY], [f"ml-cluster-1/{KEY}"]]


def test_a_node_that_comes_back_is_sent_only_what_changed_meanwhile(store: ResourceStore) -> None:
    first = Node(store)
    first.asks(CLUSTER, KEY, "rows.v1")
    held = first.versions_sent()
    store.update(clusters={"rows.v1": "ml-cluster-3"})

    again = Node(store)
    again.asks(CLUSTER, KEY, "rows.v1", holding=held)

    assert [names for _, names, _ in again.is_sent()] == [["rows.v1"]]


def test_a_resource_asked_for_again_within_a_stream_is_sent_again(node: Node) -> None:
    _holds_the_key(node)

    node.asks(ENDPOINTS, f"ml-cluster-1/{KEY}")

    assert [names for _, names, _ in node.is_sent()] == [[f"ml-cluster-1/{KEY}"]]


@pytest.mark.parametrize("name", ["xds", "", "cw-ranker", "CW.v1", "a.v1234567890", "a" * 64 + ".v1", "a.v1\n"])
def test_a_name_that_is_no_routing_key_is_not_subscribed_to(node: Node, name: str) -> None:
    node.asks(CLUSTER, name)

    assert node.is_sent() == []


def test_a_refusal_is_remembered_with_its_reason_until_a_later_one_is_applied(store: ResourceStore, node: Node) -> None:
    node.asks(CLUSTER, KEY)
    [(_, _, nonce)] = node.is_sent()
    node.acknowledges(CLUSTER, nonce, error="no such filter")

    assert (node.subscriber.refused, node.subscriber.error) == (store.subscribers.generation, "no such filter")


def test_a_node_that_asks_for_tenants_limits_gets_them_and_every_change(store: ResourceStore, node: Node) -> None:
    _holds_the_key(node)
    node.asks(EXTENSION, "tenants")
    [(_, names, nonce)] = node.is_sent()
    node.acknowledges(EXTENSION, nonce)
    assert names == ["tenants"]  # that nobody is limited, too, is said, or the filter would wait for it

    store.update(tenants={"ads": {"rate": 5}})
    [(type_url, names, nonce)] = node.is_sent()
    assert (type_url, names) == (EXTENSION, ["tenants"])
    assert node.subscriber.applied < store.subscribers.generation
    node.acknowledges(EXTENSION, nonce)
    assert node.subscriber.applied == store.subscribers.generation

    store.update(tenants={"ads": {"rate": 5}}, clusters={})
    assert node.is_sent() == []
    store.update(tenants={})
    assert node.versions_sent() == {"tenants": tenant_limits({}).version}


def test_rates_become_buckets_by_the_header_and_limits_of_concurrency_do_not() -> None:
    tenants: dict[str, dict[str, Any]] = {
        "ads": {"rate": 100, "burst": 20},
        "kids": {"concurrent": 3},
        "default": {"rate": 0.25, "concurrent": 1},
    }
    config = extension_pb2.TypedExtensionConfig.FromString(tenant_limits(tenants).body.value)
    limits = local_rate_limit_pb2.LocalRateLimit.FromString(config.typed_config.value)

    # By what the filter of keys says: an account; or a tenant, and who says without proof that it is that.
    assert [
        (
            {entry.key: entry.value for entry in each.entries},
            each.token_bucket.max_tokens,
            each.token_bucket.tokens_per_fill.value,
            each.token_bucket.fill_interval.ToTimedelta().total_seconds(),
        )
        for each in limits.descriptors
    ] == [
        ({"account": "ads"}, 20, 100, 1.0),
        ({"account": ""}, 1, 1, 4.0),
        ({"claimed": "ads", "by": ""}, 20, 100, 1.0),
    ]
    assert not limits.HasField("token_bucket")  # who fits none of them is not limited


def test_only_an_envoy_that_all_share_is_sent_whose_share_a_request_uses_up(store: ResourceStore) -> None:
    of_all, of_one = Node(store, shared=True), Node(store, caller="homepage")
    for each in (of_all, of_one):
        each.asks(EXTENSION, "keys")
        each.versions_sent()

    store.update(tenants={"ads": {"rate": 5, "callers": ["search"]}})

    assert of_all.versions_sent().keys() == {"keys"}
    assert of_one.versions_sent() == {}


class TestOfOneCaller:
    """What a sidecar that has proved its caller is sent."""

    OTHERS = "search-ranker.v1"

    @pytest.fixture
    def may_use(self) -> dict[str, list[str]]:
        return {"homepage": [KEY], "search": [self.OTHERS]}

    @pytest.fixture
    def store(self, may_use: dict[str, list[str]]) -> ResourceStore:
        store = ResourceStore(lambda caller: may_use.get(caller, ()), callers=may_use.keys)
        store.update(
            clusters={KEY: "ml-cluster-1", self.OTHERS: "ml-cluster-2"},
            endpoint_sets={f"ml-cluster-1/{KEY}": ["127.0.0.1:1"], f"ml-cluster-2/{self.OTHERS}": ["127.0.0.1:2"]},
        )
        return store

    @pytest.fixture
    def node(self, store: ResourceStore) -> Node:
        return Node(store, caller="homepage")

    def test_what_another_may_use_looks_as_if_it_were_not_there(self, store: ResourceStore, node: Node) -> None:
        node.asks(CLUSTER, KEY, self.OTHERS)
        node.asks(ENDPOINTS, f"ml-cluster-1/{KEY}", f"ml-cluster-2/{self.OTHERS}")
        sent = node.versions_sent()

        assert sent[KEY] == store.get(CLUSTER, KEY).version
        assert sent[self.OTHERS] == empty_cluster(self.OTHERS).version
        assert sent[f"ml-cluster-1/{KEY}"] == store.get(ENDPOINTS, f"ml-cluster-1/{KEY}").version
        assert sent[f"ml-cluster-2/{self.OTHERS}"] == endpoints(f"ml-cluster-2/{self.OTHERS}", ()).version

    def test_it_is_there_once_the_caller_may_use_it_and_gone_when_it_may_not(
        self, store: ResourceStore, node: Node, may_use: dict[str, list[str]]
    ) -> None:
        node.asks(CLUSTER, self.OTHERS)
        node.versions_sent()

        may_use["homepage"] = [KEY, self.OTHERS]
        store.update(clusters={})
        assert node.versions_sent() == {self.OTHERS: store.get(CLUSTER, self.OTHERS).version}

        may_use["homepage"] = [KEY]
        store.update(removed_clusters=())
        assert node.versions_sent() == {self.OTHERS: empty_cluster(self.OTHERS).version}

    def test_the_list_of_keys_changes_with_what_the_caller_may_use_and_with_nothing_else(
        self, store: ResourceStore, node: Node, may_use: dict[str, list[str]]
    ) -> None:
        node.asks(EXTENSION, "keys")
        before = node.versions_sent()["keys"]

        store.update(clusters={"rows.v1": "ml-cluster-1"})
        assert node.versions_sent() == {}

        may_use["homepage"] = [KEY, self.OTHERS]
        store.update(clusters={})
        assert node.versions_sent()["keys"] != before

    def test_names_that_lead_nowhere_are_remembered_up_to_a_bound_and_good_ones_still_work(
        self, store: ResourceStore, node: Node
    ) -> None:
        node.asks(CLUSTER, *(f"forged-{number}.v1" for number in range(3_000)))
        assert len(node.versions_sent()) == 1_024

        node.asks(CLUSTER, KEY)
        assert node.versions_sent() == {KEY: store.get(CLUSTER, KEY).version}

    @pytest.mark.parametrize("name", ["xds", "copies", "", "ml-cluster-1/*", "ml-cluster-1/", "ä.v1", "a" * 64])
    def test_a_name_that_holds_no_key_is_not_even_followed(self, node: Node, name: str) -> None:
        node.asks(CLUSTER, name)
        node.asks(ENDPOINTS, name)
        node.asks(EXTENSION, name)

        assert node.is_sent() == []


class TestTheWildcard:
    def test_few_clusters_are_sent_unasked(self, store: ResourceStore) -> None:
        node = Node(store, most_unasked=3)
        store.update(clusters={"rows.v1": "ml-cluster-3"})
        node.asks_for_all()

        assert node.is_sent() == [(CLUSTER, [KEY, "rows.v1"], "2")]

        store.update(clusters={"rows.v2": "ml-cluster-3"})
        assert node.is_sent() == [(CLUSTER, ["rows.v2"], "3")]

    def test_a_caller_is_sent_its_own(self) -> None:
        store = ResourceStore(lambda caller: {KEY} if caller == "homepage" else set())
        store.update(clusters={KEY: "ml-cluster-1", "rows.v1": "ml-cluster-3"})
        node = Node(store, "homepage", most_unasked=2)
        node.asks_for_all()

        assert node.is_sent() == [(CLUSTER, [KEY], "2")]

    def test_of_many_clusters_none_is_sent_but_an_answer_is(self, store: ResourceStore) -> None:
        node = Node(store, most_unasked=2)
        store.update(clusters={f"m.v{number}": "ml-cluster-3" for number in range(2)})
        node.asks_for_all()

        assert node.is_sent() == [(CLUSTER, [], "2")]
        node.asks(CLUSTER, "m.v1")
        assert node.is_sent() == [(CLUSTER, ["m.v1"], "3")]

    @pytest.mark.parametrize("names", [(), ("*", "rows.v1")])
    def test_a_node_that_comes_back_is_sent_what_has_changed(
        self, store: ResourceStore, names: tuple[str, ...]
    ) -> None:
        node = Node(store, most_unasked=2)
        store.update(clusters={"rows.v1": "ml-cluster-3"})
        node.asks_for_all()
        holding = node.versions_sent()
        store.update(clusters={KEY: "ml-cluster-2"})
        again = Node(store, most_unasked=2)

        again.asks_for_all(*names, holding=holding)

        assert again.is_sent() == [(CLUSTER, [KEY], "2")]

    def test_names_from_an_earlier_stream_are_waited_for(self, store: ResourceStore) -> None:
        node = Node(store, most_unasked=2)
        node.asks(CLUSTER, "*", KEY)
        assert node.is_sent() == [(CLUSTER, [], "1")]

        node.asks(EXTENSION, NAMES, holding={NAMES: f"names {KEY}~1"})
        assert node.is_sent() == [(CLUSTER, [f"{KEY}~1"], "2")]

    def test_no_other_request_without_a_name_means_all(self, store: ResourceStore) -> None:
        node = Node(store, most_unasked=2)
        node.asks(CLUSTER, "rows.v1")
        [(_, _, nonce)] = node.is_sent()
        node.acknowledges(CLUSTER, nonce)
        node.forgets(CLUSTER, "rows.v1")

        assert node.is_sent() == []

    def test_a_cluster_sent_unasked_does_not_leave_for_being_idle(self, store: ResourceStore) -> None:
        node = Node(store, most_unasked=2)
        node.asks_for_all()
        node.is_sent()

        for _ in range(5):
            node.reports({KEY: False})

        assert node.is_sent() == []
