from typing import Any

import pytest

from lab.errors import InputError
from lab.plugins.capacity.assumptions import ASSUMPTIONS, Assumptions, Origin
from lab.plugins.capacity.costs import PAYLOAD, TITLE, Costs, costs_of
from lab.plugins.capacity.fleet import Demand, PathComponents, components, fleet
from lab.plugins.capacity.fleet_sizing import AT_ENVOYS_COST, survey
from lab.plugins.capacity.services import mean_s, parse_size
from lab.topologies import TOPOLOGIES
from models.stub.behaviour import parse_latency

SIZE = 1_000
# What a request costs, ms of processor time: easy to multiply in one's head.
COSTS = Costs(
    {
        ("gateway", "caller", SIZE): 0.0006,
        ("gateway", "gateway", SIZE): 0.0012,
        ("mesh", "caller", SIZE): 0.0006,
        ("mesh", "resolver", SIZE): 0.0,
        ("mesh", "sidecar", SIZE): 0.0003,
    },
    "by hand",
)
DEMAND = Demand(rps=1_000, payload_bytes=SIZE, callers=2, clusters=10, slots=4, service_s=0.02)
ASSUMED = Assumptions(
    {
        "utilisation": 0.5,
        "core-hour": 0.036,
        "gigabyte": 0.01,
        "cross-zone": 0.5,
        "hop-ms": 0.25,
        "answer-bytes": 0,
        "noticed-s": 2,
    }
)


def test_a_gateway_by_hand() -> None:
    found = fleet("gateway", DEMAND, COSTS, ASSUMED)
    caller, gateway = found.parts

    assert [caller.cores.value, gateway.cores.value] == [pytest.approx(1.2), pytest.approx(2.4)]
    assert [caller.instances.value, gateway.instances.value] == [2, 3]  # one for each caller; 2.4 cores, one each
    assert (found.cores.value, found.instances.value, found.hops.value) == pytest.approx((3.6, 5, 2))
    assert (found.hop_ms.value, found.wire.value) == pytest.approx((0.5, 0.016))
    # 1.8 ms at half a core: 3,600 core seconds a million, an hour. 2 hops × half of them × 1 KB × 10^6: 1 GB.
    assert (found.usd_cores.value, found.usd_wire.value) == pytest.approx((0.036, 0.01))
    assert found.usd.value == pytest.approx(0.046)
    # 100 rps × 20 ms is 2 slots; at half of four, one replica in each cluster.
    assert (found.balancers.value, found.connections.value) == (3, 30)
    assert (
        found.struck.value,
        found.reached.value,
        found.lost.value,
    ) == pytest.approx((1 / 3, 2, 2_000 / 3))


def test_a_mesh_by_hand() -> None:
    found = fleet("mesh", DEMAND, COSTS, ASSUMED)

    assert [part.instances.value for part in found.parts] == [2, 2, 2]
    assert (found.cores.value, found.hops.value) == pytest.approx((1.8, 1))
    assert (
        found.balancers.value,
        found.connections.value,
        found.struck.value,
        found.reached.value,
    ) == pytest.approx((2, 20, 0.5, 1))


def test_central_parts_run_twice() -> None:
    costs = Costs({("gateway", part, SIZE): 1e-6 for part in ("caller", "gateway")}, "by hand")

    assert fleet("gateway", DEMAND, costs, ASSUMED).parts[1].instances.value == 2


def test_every_number_says_where_it_is_from() -> None:
    def quantities(document: Any) -> list[dict[str, Any]]:
        if isinstance(document, dict) and "origin" in document:
            return [document]
        inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
        return [each for part in inner for each in quantities(part)]

    document = [fleet("mesh", DEMAND, COSTS, ASSUMED).to_document(), Assumptions({"hop-ms": 1}).to_document()]
    found = quantities(document)

    assert len(found) == 3 * 3 + 13 + len(ASSUMPTIONS)  # of each part; of the topology; assumed
    assert all(each["source"] and each["origin"] in set(Origin) for each in found)
    assert {each["source"] for each in found if each["source"].startswith("--")} == {"--hop-ms"}


@pytest.mark.parametrize(
    ("topology", "beside", "central", "balancer"),
    [
        ("direct", ("caller",), (), "caller"),
        ("gateway", ("caller",), ("gateway",), "gateway"),
        ("gateway-header", ("caller", "resolver"), ("central-envoy",), "central-envoy"),
        ("mesh", ("caller", "resolver", "sidecar"), (), "sidecar"),
        ("proxyless", ("caller", "resolver"), (), "caller"),
    ],
)
def test_parts_follow_from_the_path(
    topology: str, beside: tuple[str, ...], central: tuple[str, ...], balancer: str
) -> None:
    assert components(topology) == PathComponents(beside, central, balancer)


def test_every_topology_has_a_balancer_among_its_parts() -> None:
    assert [name for name in TOPOLOGIES if components(name).balancer not in components(name).parts] == []


@pytest.mark.parametrize(
    ("clusters", "slots", "utilisation", "replicas"),
    [(10, 4, 0.5, 1), (10, 1, 0.5, 4), (1, 4, 0.5, 10), (1, 4, 0.6, 9)],
)
def test_as_many_replicas_as_keep_slots_no_busier(clusters: int, slots: int, utilisation: float, replicas: int) -> None:
    demand = Demand(rps=1_000, payload_bytes=0, callers=1, clusters=clusters, slots=slots, service_s=0.02)

    assert demand.replicas(utilisation) == replicas


def kept(*rows: list[object], title: str = TITLE) -> dict[str, Any]:
    columns = ["topology", PAYLOAD, "caller", "sidecar", "sum"]
    return {
        "ran": {"started": "2026-01-02T03:04:05+00:00"},
        "tables": [{"title": title, "columns": columns, "rows": rows}],
    }


@pytest.mark.parametrize("wrapped", [lambda it: it, lambda it: {"capacity": it, "memory": {"tables": []}}])
def test_costs_are_read_as_measured_and_computed_on_the_line_through_two_sizes(wrapped: Any) -> None:
    document = wrapped(kept(["mesh", 1_000, 0.5, 0.2, 0.7], ["mesh", 3_000, 0.7, 0.2, 0.9]))
    costs = costs_of(document, "here")
    seconds = {size: costs.at("mesh", "caller", size) for size in (1_000, 2_000, 3_000, 5_000, 0)}

    assert {size: 1e3 * each.value for size, each in seconds.items()} == pytest.approx(
        {0: 0.4, 1_000: 0.5, 2_000: 0.6, 3_000: 0.7, 5_000: 0.9}
    )
    assert [seconds[size].origin for size in (3_000, 2_000)] == [Origin.MEASURED, Origin.COMPUTED]
    assert "2026-01-02T03:04:05 UTC (here)" in seconds[1_000].source
    assert costs.topologies == ["mesh"]


def test_at_a_size_that_was_not_measured_one_size_says_nothing() -> None:
    costs = costs_of(kept(["mesh", 400, 0.5, 0.2, 0.7]), "here")

    with pytest.raises(InputError, match="--payload: 30000 B was not measured, only 400 B"):
        costs.at("mesh", "caller", 30_000)
    with pytest.raises(InputError, match=r"mesh: the cost of its part 'gateway' is not known"):
        costs.at("mesh", "gateway", 400)


@pytest.mark.parametrize("document", [[], {}, {"tables": []}, kept(title="something else"), 7])
def test_a_document_without_costs_is_refused(document: Any) -> None:
    with pytest.raises(InputError, match="here: holds no processor time"):
        costs_of(document, "here")


def test_a_table_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match=r"here: its table .* cannot be read"):
        costs_of(kept(["mesh", "much", 1, 2, 3]), "here")


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("rps", 0, "--rps"),
        ("rps", float("nan"), "--rps"),
        ("rps", float("inf"), "--rps"),
        ("payload_bytes", -1, "--payload"),
        ("callers", 0, "--callers"),
        ("clusters", 0, "--clusters"),
        ("slots", 0, "--slots"),
        ("service_s", 0.0, "--service"),
    ],
)
def test_a_demand_that_cannot_be_is_refused_by_option(field: str, value: float, option: str) -> None:
    fields = {name: getattr(DEMAND, name) for name in DEMAND.__slots__}

    with pytest.raises(InputError, match=f"^{option}: "):
        Demand(**{**fields, field: value})


@pytest.mark.parametrize("given", [{"utilisation": 0.0}, {"utilisation": 1.0}, {"core-hour": -1}, {"cross-zone": 1.5}])
def test_an_assumption_out_of_range_is_refused_by_option(given: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"^--{min(given)}: .* out of range"):
        Assumptions(given)


def test_an_assumption_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="'luck' is not known"):
        Assumptions({"luck": 1})


@pytest.mark.parametrize(
    ("text", "size"), [("400", 400), ("30KB", 30_000), ("30 kb", 30_000), ("4.1 MB", 4_100_000), ("7B", 7)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text, "--payload") == size


@pytest.mark.parametrize("text", ["", "KB", "-1", "1GB", "1e3", "30KiB"])
def test_an_invalid_size_is_refused_by_option(text: str) -> None:
    with pytest.raises(InputError, match=r"^--payload: "):
        parse_size(text, "--payload")


def test_service_times_have_their_mean() -> None:
    assert mean_s(parse_latency("constant:20")) == 0.02
    assert mean_s(parse_latency("lognormal:20,0.4")) == pytest.approx(0.0216657, rel=1e-5)
    with pytest.raises(InputError, match=r"^--service: "):
        mean_s(parse_latency("load:3,16"))


def test_a_gateway_at_envoys_cost_stands_beside_the_gateway() -> None:
    central = {("gateway-header", part, SIZE): cost for part, cost in (("resolver", 0.0), ("central-envoy", 0.0002))}
    costs = Costs({**COSTS._seconds, ("gateway-header", "caller", SIZE): 0.0005, **central}, "by hand")

    latency = parse_latency("constant:20")
    with_envoy, without = (survey(DEMAND, latency, each, ASSUMED, simulated=False).fleets for each in (costs, COSTS))

    assert [each.topology for each in without] == ["gateway", "mesh"]
    assert [each.topology for each in with_envoy] == ["gateway", AT_ENVOYS_COST, "mesh", "gateway-header"]
    parts = {each.topology: {part.part: part.cpu_s for part in each.parts} for each in with_envoy}
    cheap = parts[AT_ENVOYS_COST]
    assert cheap["caller"].value == parts["gateway"]["caller"].value
    assert (cheap["gateway"].value, cheap["gateway"].source) == (
        0.0002,
        "gateway at the cost of central-envoy in gateway-header: by hand",
    )
