import copy
import json
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from lab.errors import RouteTableError
from lab.history import Record
from lab.routing.document import KNOWN_APIS, ModelVersion, RouteTable, Source, read_path, read_sources, sources_of
from lab.routing.edits import sharing
from lab.routing.limits import Limit, limits_of
from lab.routing.schema import CONTEXT_FIELDS, Conditions
from models.apis import APIS


def test_the_document_has_exactly_the_shape_of_the_yaml(sample_path: Path, sample_table: RouteTable) -> None:
    by_pyyaml = json.loads(json.dumps(yaml.safe_load(sample_path.read_text().replace("NO]", "'NO']"))))
    assert by_pyyaml == sample_table.document


def test_versions_and_clusters_are_indexed(sample_table: RouteTable) -> None:
    expected = ModelVersion(
        "cw-ranker", "v2", {"diversity": 0.2, "exploring": True, "label": "x"}, cluster="ml-cluster-7"
    )
    assert sample_table.versions["cw-ranker.v2"] == expected
    assert expected.routing_key == "cw-ranker.v2"
    assert sample_table.versions.keys() == {"cw-ranker.v1", "cw-ranker.v2", "fraud.v1"}
    assert sample_table.clusters == {"ml-cluster-1": 2, "ml-cluster-2": 2, "ml-cluster-7": 1}


def test_norway_is_a_country(sample_table: RouteTable) -> None:
    rule = sample_table.document["use_cases"]["ContinueWatchingRanking"]["rules"][1]
    assert rule["when"] == {"country": ["DE", "NO"]}


def test_a_stored_document_gives_the_same_table(sample_table: RouteTable) -> None:
    again = RouteTable.from_document(json.loads(sample_table.json()))
    assert sample_table == again
    assert sample_table.json() == again.json()
    assert again.document is not sample_table.document


def test_canonical_bytes_do_not_depend_on_the_order_of_writing(sample_table: RouteTable) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(inner) for key, inner in reversed(value.items())}
        return value

    backwards = {section: turned(entries) for section, entries in sample_table.document.items()}
    assert sample_table.json() == RouteTable.from_document(backwards).json()


def test_a_document_that_is_wrong_is_refused_without_a_line(sample_table: RouteTable) -> None:
    broken = copy.deepcopy(sample_table.document)
    broken["use_cases"]["FraudDetection"]["default"] = "fraud@v2"
    with pytest.raises(RouteTableError) as caught:
        RouteTable.from_document(broken)
    assert str(caught.value) == "-: use_cases.FraudDetection.default: model 'fraud' has no version 'v2'; known: v1"


def test_a_document_that_is_not_json_is_refused() -> None:
    with pytest.raises(RouteTableError, match="is not JSON data"):
        RouteTable.from_document({"clusters": {"a": object()}})
    deep: dict[str, object] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(RouteTableError, match="is not JSON data"):
        RouteTable.from_document(deep)


def test_an_empty_document_is_a_table_without_use_cases() -> None:
    table = RouteTable.from_document({})
    assert table.document == {"use_cases": {}, "models": {}, "clusters": {}}
    assert table.versions == {}


def test_a_directory_is_merged_in_the_order_of_its_names(tmp_path: Path, sample_table: RouteTable) -> None:
    (tmp_path / ".hidden.yaml").write_text("nonsense: [")
    (tmp_path / "notes.txt").write_text("nonsense: [")
    (tmp_path / "20-rest.yaml").write_text("# nothing yet\n")
    for number, (name, use_case) in enumerate(sample_table.document["use_cases"].items()):
        (tmp_path / f"1{number}.yaml").write_text(yaml.safe_dump({"use_cases": {name: use_case}}))
    models = {key: sample_table.document[key] for key in ("models", "clusters")}
    (tmp_path / "00-models.yaml").write_text(yaml.safe_dump(models))
    assert read_path(tmp_path) == sample_table
    names = [source.name for source in sources_of(tmp_path)]
    assert [str(tmp_path / f"{name}.yaml") for name in ("00-models", "10", "11", "20-rest")] == names


def test_the_same_name_in_two_files_is_refused() -> None:
    sources = [Source("a.yaml", "clusters:\n  c: {replicas: 1}"), Source("b.yaml", "\nclusters:\n  c: {replicas: 2}")]
    with pytest.raises(RouteTableError) as caught:
        read_sources(sources)
    assert str(caught.value) == "b.yaml:3: clusters.c: duplicate key 'c', first at a.yaml:2; keep one of them"


def test_of_several_files_the_first_problem_is_named(sample_path: Path) -> None:
    bad = Source("b.yaml", "\nuse_cases:\n  A: {caller: [x]}\n  B: 1")
    with pytest.raises(RouteTableError, match=r"^b\.yaml:3: use_cases\.A\.caller"):
        read_sources([Source("a.yaml", sample_path.read_text()), bad])
    with pytest.raises(RouteTableError, match=r"^c\.yaml:1: is not a route table"):
        read_sources([Source("a.yaml", sample_path.read_text()), Source("c.yaml", "x")])


@pytest.mark.parametrize(
    "text", ["root:$6$secret:1::\nbin:*:2::\n", "secret: secret\n", "- secret\n", "secret: 'secret\n", "a: *secret\n"]
)
def test_a_file_that_is_not_a_route_table_is_not_quoted(text: str) -> None:
    with pytest.raises(RouteTableError, match=r"^shadow:\d: ") as caught:
        read_sources([Source("shadow", text)])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("clusters:\n  c: {replicas: 0}\nuse_cases:\n  A: {wrong: 1}\n", "r.yaml:2: clusters.c.replicas: "),
        (
            """\
models:
  m: {versions: {v1: {cluster: gone}}}
use_cases:
  A: {callers: [x], api: nope, timeout: 1s, default: m@v2}
""",
            "r.yaml:2: models.m.versions.v1.cluster: ",
        ),
    ],
)
def test_of_several_problems_the_first_by_line_is_named(text: str, place: str) -> None:
    with pytest.raises(RouteTableError) as caught:
        read_sources([Source("r.yaml", text)])
    assert str(caught.value).startswith(place)


def test_of_several_files_an_early_line_of_a_later_one_does_not_come_first() -> None:
    first = Source("z.yaml", "\n\n\nclusters:\n  c: {replicas: 0}")
    second = Source("a.yaml", "use_cases: {A: {wrong: 1}}")
    with pytest.raises(RouteTableError, match=r"^z\.yaml:5: clusters\.c\.replicas: "):
        read_sources([first, second])


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RouteTableError, match=r"none\.yaml: no such file or directory; name a readable file"):
        read_path(tmp_path / "none.yaml")
    with pytest.raises(RouteTableError, match=r"has no \*\.yaml file in it"):
        read_path(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"clusters: {}\n# caf\xe9\n")
    with pytest.raises(RouteTableError, match=r"a\.yaml:2: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        read_path(tmp_path)
    (tmp_path / "a.yaml").write_bytes("\ufeffclusters: {c: {replicas: 3}}".encode())
    assert read_path(tmp_path).clusters == {"c": 3}


def test_anchors_may_be_used() -> None:
    text = """
use_cases:
  A: &a {callers: [x], api: ranking.v1, timeout: 1.5s, default: m@v1}
  B: *a
models: {m: {versions: {v1: {cluster: c}}}}
clusters: {c: {replicas: 1}}
"""
    document = read_sources([Source("r.yaml", text)]).document
    assert document["use_cases"]["A"] == document["use_cases"]["B"]


def test_other_apis_can_be_made_known(sample_path: Path) -> None:
    with pytest.raises(RouteTableError, match=r"api 'ranking\.v1' is not one of the lab's; did you mean 'ranking\.v2'"):
        read_path(sample_path, apis={"ranking.v2", "fraud.v1"})


def test_the_table_knows_the_apis_and_context_fields_that_the_rest_of_the_lab_has() -> None:
    assert APIS.keys() == KNOWN_APIS
    assert set(CONTEXT_FIELDS) <= get_type_hints(Record).keys()
    assert list(Conditions.model_fields) == [*CONTEXT_FIELDS, "negated"]


def test_limits_of_tenants_are_part_of_the_document_if_there_are_any() -> None:
    tenants = {"ads": {"rate": 100, "burst": 20, "concurrent": 20}, "default": {"rate": 2.5}}

    table = RouteTable.from_document({"tenants": tenants})

    assert tenants == table.document["tenants"]
    assert table == RouteTable.from_document(table.document)
    assert table != RouteTable.from_document({})
    assert (
        table.document["tenants"] is sharing(RouteTable.from_document({"tenants": tenants}), table).document["tenants"]
    )
    assert "tenants" not in sharing(RouteTable.from_document({"tenants": {}}), table).document


def test_a_limit_is_shared_out_in_whole_requests_and_none_is_left_with_nothing() -> None:
    limits = limits_of({"ads": {"rate": 2.5}, "kids": {"concurrent": 3}, "tv": {"rate": 5, "burst": 1}})

    assert limits == {
        "ads": Limit(rate=2.5, burst=3),
        "kids": Limit(concurrent=3),
        "tv": Limit(rate=5, burst=1),
    }
    assert Limit(rate=1.25, burst=2) == limits["ads"].share(2)
    assert Limit(concurrent=2) == limits["kids"].share(2)
    assert Limit(rate=2.5, burst=1) == limits["tv"].share(2)
