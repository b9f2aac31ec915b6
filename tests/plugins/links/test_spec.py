"""What a spec says about links, and what of it is refused, in one line."""

from pathlib import Path

import pytest
import yaml

from lab.errors import SpecError
from lab.lab import DEFAULT_SPEC
from lab.links import ROLE
from lab.roles import CONTROL_PLANE, plan
from lab.routing.document import read_path
from lab.runtime.compose import document
from lab.runtime.compose.__main__ import fixed_site
from lab.spec import SIZES, LabSpec, override, read_spec

SPEC = """
topologies = ["gateway", "mesh"]
routes = "{routes}"
[callers.homepage]
[callers.search]
[gateway]
replicas = 1
[links]
"""
ZONES = """
[links.zones]
west = ["homepage", "ml-cluster-1-a", "ml-cluster-2"]
east = ["search", "gateway", "ml-cluster-1-b"]
"""


def read(folder: Path, links: str) -> LabSpec:
    file = folder / "lab.toml"
    file.write_text(SPEC.format(routes=SIZES["links"].with_suffix(".routes.yaml")) + links)
    return read_spec(file)


def planned(spec: LabSpec) -> set[str]:
    return {unit.name for unit in plan(spec, read_path(spec.routes), fixed_site()).with_role(ROLE)}


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ("delay_ms = -1" + ZONES, r"links.delay_ms: Input should be greater than or equal to 0"),
        ("delay_ms = 1e5" + ZONES, r"links.delay_ms: Input should be less than or equal to 10000"),
        ("delay_ms = nan" + ZONES, r"links.delay_ms: Input should be a finite number"),
        ('delay_ms = "soon"' + ZONES, r"links.delay_ms: Input should be a valid number"),
        ("jitter_ms = -0.1" + ZONES, r"links.jitter_ms: "),
        ("mbit_s = 1e7" + ZONES, r"links.mbit_s: "),
        ("loss = 1" + ZONES, r"links.loss: unknown field; remove it"),
        ("", r"links.zones: is missing; add it"),
        ("[links.zones]\nwest = []\n", r"links.zones: .*at least 2"),
        ('[links.zones]\nwest = ["homepage"]\neast = ["homepage"]\n', r"homepage is in the zones west and east"),
        ('[links.zones]\n"far-west" = []\neast = []\n', r"links.zones.far-west"),
        ('[links.zones]\nwest = ["../etc"]\neast = []\n', r"links.zones.west.0: "),
        (ZONES + '[links.one_way."west west"]\n', r"one_way.'west west': write two of the zones: west, east"),
        (ZONES + '[links.one_way."west north"]\n', r"one_way.'west north': write two of the zones"),
        (ZONES + '[links.one_way."west east"]\ndelay_ms = -3\n', r"links.one_way.west east.delay_ms"),
    ],
)
def test_a_hostile_value_gives_one_clear_line(links: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message) as refused:
        read(tmp_path, links)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "lab.toml:"))


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        (
            'west = ["caller", "gateway", "model"]\neast = ["nobody"]\n',
            "nobody is not a caller, cluster, or unit between",
        ),
        ('west = ["homepage", "gateway"]\neast = ["model"]\n', "search is in no zone; add it to one"),
        ('west = ["caller", "gateway"]\neast = ["ml-cluster-1"]\n', "ml-cluster-2 is in no zone"),
        ('west = ["caller", "model"]\neast = []\n', "gateway-1 is in no zone"),
    ],
)
def test_zones_that_do_not_fit_the_lab_give_one_clear_line(zones: str, message: str, tmp_path: Path) -> None:
    spec = read(tmp_path, f"[links.zones]\n{zones}")
    with pytest.raises(SpecError, match=message) as refused:
        planned(spec)
    assert "\n" not in str(refused.value)


def test_a_name_that_a_link_would_have_is_refused(tmp_path: Path) -> None:
    spec = read(tmp_path, ZONES)
    callers = {**spec.callers, "west-to-gateway-1": spec.callers["search"]}
    assert spec.links is not None
    links = spec.links.model_copy(update={"zones": {**spec.links.zones, "west": [*spec.links.zones["west"], *callers]}})
    links = links.model_copy(update={"zones": {**links.zones, "west": [*{*links.zones["west"]} - {"search"}]}})
    with pytest.raises(SpecError, match="west-to-gateway-1 is the name of a unit already; rename the zone west"):
        planned(spec.model_copy(update={"callers": callers, "links": links}))


def test_each_zone_has_a_link_to_what_it_reaches_elsewhere(tmp_path: Path) -> None:
    assert planned(read(tmp_path, ZONES)) == {
        "east-to-ml-cluster-1-a",
        "east-to-ml-cluster-2-a",
        "east-to-ml-cluster-2-b",
        "west-to-gateway-1",
        "west-to-ml-cluster-1-b",
    }


def test_a_topology_may_be_left_out_whose_units_are_in_a_zone(tmp_path: Path) -> None:
    spec = override(read(tmp_path, ZONES), topologies=["mesh"])
    assert planned(spec) == {"east-to-ml-cluster-1-a", "east-to-ml-cluster-2-a", "east-to-ml-cluster-2-b"} | {
        "west-to-ml-cluster-1-b"
    }


def test_directions_may_differ(tmp_path: Path) -> None:
    spec = read(tmp_path, "delay_ms = 1" + ZONES + '[links.one_way."east west"]\ndelay_ms = 3\n')
    layout = plan(spec, read_path(spec.routes), fixed_site())
    argv = layout.unit("west-to-gateway-1").argv
    assert argv[argv.index("--there") + 1 :][:3] == ('{"delay_ms": 1.0}', "--back", '{"delay_ms": 3.0}')


def test_everybody_gets_the_addresses_of_the_own_zone(tmp_path: Path) -> None:
    spec = read(tmp_path, ZONES)
    layout = plan(spec, read_path(spec.routes), fixed_site())
    link, gateway = layout.unit("west-to-gateway-1"), layout.unit("gateway-1")
    assert link.relay is not None
    assert layout.callers["homepage"].addresses_of("gateway") == (link.relay.inside,)
    assert layout.clients["homepage"].addresses_of("gateway") == (link.relay.outside,)
    assert layout.callers["search"].addresses_of("gateway") == (gateway.port.inside,)
    # The relay passes bytes on, so the certificate that a caller sees is the gateway's, and must name the link's host.
    assert link.relay.inside.partition(":")[0] in gateway.hosts


def test_each_link_is_a_container_of_every_topology(tmp_path: Path) -> None:
    spec, site = read(tmp_path, ZONES), fixed_site()
    layout = plan(spec, read_path(spec.routes), site)
    setting = document.Setting(
        **dict.fromkeys(("project", "image", "base_image", "context", "title", "how_made", "file"), "x"),
        subnet=site.subnet,
        hosts=site.hosts,
        security="plaintext",
    )
    service = yaml.safe_load(document.render(layout, setting))["services"]["west-to-gateway-1"]
    gateway = layout.unit("gateway-1")
    assert {*spec.topologies, "all"} <= {*service["profiles"]}
    assert [each.rpartition(":")[2] for each in service["ports"]] == ["9000", "9090"]
    assert f"--relay 0.0.0.0:9090 --target {gateway.port.inside}" in service["command"]


@pytest.mark.parametrize("size", ["mini", "default", "pages"])
def test_a_lab_without_links_has_none_of_this(size: str) -> None:
    spec = read_spec(DEFAULT_SPEC if size == "default" else SIZES[size])
    layout = plan(spec, read_path(spec.routes), fixed_site())
    assert spec.links is None
    assert not layout.with_role(ROLE)
    assert "--zones" not in layout.unit(CONTROL_PLANE).argv
    for unit in layout.units:
        assert "--service-zone" not in unit.argv
        assert "local_cluster_name" not in unit.files.get("envoy.yaml", "")
        assert not unit.relay
