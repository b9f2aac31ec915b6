"""Made-up topologies: the same for the same seed, and with the proportions of real ones."""

from collections import Counter

import pytest

from lab.errors import InputError
from lab.plugins.bench.scale.synthetic_deployment import SyntheticDeployment, generate
from lab.routing.document import RouteTable

CLUSTERS, CALLERS, USE_CASES = 1_000, 30, 200


@pytest.fixture(scope="module", name="deployment")
def _deployment() -> SyntheticDeployment:
    return generate(clusters=CLUSTERS, callers=CALLERS, use_cases=USE_CASES, seed=1, port=20_000)


def test_the_same_seed_makes_the_same_and_another_makes_another(deployment: SyntheticDeployment) -> None:
    def again(seed: int) -> SyntheticDeployment:
        return generate(clusters=CLUSTERS, callers=CALLERS, use_cases=USE_CASES, seed=seed, port=20_000)

    assert deployment == again(seed=1)
    assert deployment.document != again(seed=2).document


def test_it_is_a_valid_route_table_of_just_so_many(deployment: SyntheticDeployment) -> None:
    table = RouteTable.from_document(deployment.document)

    assert (len(table.clusters), len(table.document["use_cases"])) == (CLUSTERS, USE_CASES)
    assert len(deployment.popularity) == CALLERS


def test_every_cluster_serves_something_and_popular_ones_serve_several_models(deployment: SyntheticDeployment) -> None:
    held = Counter(
        version["cluster"] for model in deployment.document["models"].values() for version in model["versions"].values()
    )
    names = list(deployment.document["clusters"])

    assert set(names) == held.keys()
    assert sum(held[name] for name in names[:100]) > 2 * sum(held[name] for name in names[-100:])
    assert max(len(model["versions"]) for model in deployment.document["models"].values()) > 3


def test_few_use_cases_get_most_requests(deployment: SyntheticDeployment) -> None:
    for asked in deployment.popularity.values():
        counts = sorted(Counter(asked).values(), reverse=True)
        few = max(1, len(counts) // 5)
        assert sum(counts[:few]) > sum(counts) / 3
        assert min(counts) >= 1


def test_every_replica_has_an_address_of_its_own_on_loopback(deployment: SyntheticDeployment) -> None:
    addresses = [each.address for each in deployment.replicas]

    assert len(addresses) == len(set(addresses)) > CLUSTERS
    assert all(address.startswith("127.") and not address.startswith("127.0.") for address in addresses)


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        ({"clusters": 0}, "--clusters"),
        ({"callers": 1_000}, "--callers"),
        ({"use_cases": 5}, "--use-cases"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_line(numbers: dict[str, int], field: str) -> None:
    with pytest.raises(InputError, match=field):
        generate(**{"clusters": 100, "callers": 10, "use_cases": 50, **numbers})
