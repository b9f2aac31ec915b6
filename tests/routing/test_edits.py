import pytest
import yaml

from lab.errors import RouteTableError
from lab.routing.document import RouteTable, Source
from lab.routing.edits import with_models, with_use_cases

EXPERIMENT = "rules: [{name: ab, experiment: {id: 7, unit: user_id, cells: {1: {weight: %d, use: m@v1}, %s}}}]"
USE_CASE = "callers: [homepage]\napi: ranking.v1\ntimeout: 1s\ndefault: m@v1\n"


def experiment(weight: int) -> str:
    return USE_CASE + EXPERIMENT % (weight, f"2: {{weight: {100 - weight}, use: m@v2}}")


def table() -> RouteTable:
    use_cases = {"A": yaml.safe_load(experiment(80)), "B": yaml.safe_load(USE_CASE)}
    versions = {"v1": {"cluster": "c"}, "v2": {"cluster": "c"}}
    return RouteTable.from_document(
        {"use_cases": use_cases, "models": {"m": {"versions": versions}}, "clusters": {"c": {"replicas": 1}}}
    )


def test_one_use_case_changes_and_all_others_are_the_same_objects() -> None:
    before = table()

    after = with_use_cases(before, {"B": Source("b.yaml", experiment(80))})

    assert after.document["use_cases"]["A"] is before.document["use_cases"]["A"]
    assert after.document["use_cases"]["B"]["rules"][0]["experiment"]["id"] == 7
    assert "rules" not in before.document["use_cases"]["B"]


def test_an_experiment_that_another_use_case_allocates_otherwise_is_refused_with_its_line() -> None:
    with pytest.raises(RouteTableError, match=r"^b\.yaml:5: .*experiment '?7'? has other cells or weights") as error:
        with_use_cases(table(), {"B": Source("b.yaml", experiment(50))})

    assert all(line.startswith("b.yaml:5: ") for line in str(error.value).splitlines())


def test_the_only_use_case_of_an_experiment_may_change_its_weights() -> None:
    after = with_use_cases(table(), {"A": Source("a.yaml", experiment(50))})

    assert after.document["use_cases"]["A"]["rules"][0]["experiment"]["cells"]["1"]["weight"] == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^x\.yaml:1: is empty; write the content of the use case's entry"),
        (USE_CASE.replace("m@v1", "m@v9"), r"^x\.yaml:4: use_cases\.B\.default: model 'm' has no version 'v9'"),
        (USE_CASE + "colour: red\n", r"^x\.yaml:5: use_cases\.B\.colour: unknown field 'colour'"),
    ],
)
def test_mistakes_are_named_with_file_line_and_field(text: str, message: str) -> None:
    with pytest.raises(RouteTableError, match=message):
        with_use_cases(table(), {"B": Source("x.yaml", text)})


def moved(cluster: str = "c", *, versions: str = "v1 v2") -> Source:
    return Source(
        "m.yaml", f"versions: {{{', '.join(f'{version}: {{cluster: {cluster}}}' for version in versions.split())}}}"
    )


def test_a_model_moves_and_all_else_is_the_same() -> None:
    before = with_models(table(), {"n": Source("n.yaml", "versions: {v1: {cluster: c}}")})

    after = with_models(before, {"m": moved(versions="v1 v2 v3")})

    assert after.versions.keys() == {"m.v1", "m.v2", "m.v3", "n.v1"}
    assert after.versions["n.v1"] is before.versions["n.v1"]
    assert after.document["use_cases"] is before.document["use_cases"]
    assert "m.v3" not in before.versions


def test_a_model_may_not_move_where_no_cluster_is() -> None:
    with pytest.raises(
        RouteTableError, match=r"m.yaml:1: models.m.versions.v1.cluster: cluster 'd' is not in clusters"
    ):
        with_models(table(), {"m": moved("d")})


def test_a_version_that_is_still_asked_for_may_not_go() -> None:
    with pytest.raises(RouteTableError, match="model 'm' has no version 'v2'"):
        with_models(table(), {"m": moved(versions="v1")})
