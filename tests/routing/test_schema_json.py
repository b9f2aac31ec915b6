"""What editors are told agrees with what validation says, as far as a JSON Schema can tell."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from lab.cli.routes import app
from lab.errors import RouteTableError
from lab.routing.checks import Problem, problems
from lab.routing.document import KNOWN_APIS, read_path
from lab.routing.resilience import SETTINGS
from lab.routing.schema_json import json_schema, text
from lab.routing.yaml_nodes import parse
from tests.routing.generated import tables
from tests.routing.test_bad_tables import BAD, GOOD

CHECKOUT = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(json_schema())
# Sums, and ranges of what is written as a text, are beyond a JSON Schema.
BEYOND = ("add up to", "is out of range", "write one of them")
# Found together with what ties places of the table to each other, but expressible.
SHAPE_AS_WELL = ("is not one of the lab's", "a rule cannot be named")


def shape_problem(document: object) -> str:
    """What the lab says of the shape, empty if nothing."""
    said = (each.text() for each in problems(document, KNOWN_APIS) if _of_shape(each))
    return next(said, "")


def _of_shape(problem: Problem) -> bool:
    return not isinstance(problem.details, str) or any(words in problem.details for words in SHAPE_AS_WELL)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_the_copy_for_editors_is_fresh() -> None:
    kept = (CHECKOUT / "docs" / "routes.schema.json").read_text()
    assert kept == text(), "make it anew: lab routes schema > docs/routes.schema.json"


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, json_schema())


def test_the_default_table_tells_editors_where_it_is() -> None:
    first = (CHECKOUT / "routes.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/routes.schema.json"


@pytest.mark.parametrize("path", [CHECKOUT / "routes.yaml", Path(__file__).parent / "routes.yaml"])
def test_tables_of_files_are_accepted(path: Path) -> None:
    VALIDATOR.validate(read_path(path).document)


@settings(max_examples=100, deadline=None)
@given(tables())
def test_tables_that_validation_accepts_are_accepted(document: dict[str, Any]) -> None:
    assert shape_problem(document) == ""
    VALIDATOR.validate(document)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [(bad[0], bad[1], bad[4]) for bad in BAD],
    ids=[f"{bad[3]}:{bad[1][:20]!r}" for bad in BAD],
)
def test_shapes_that_validation_refuses_are_refused(old: str, new: str, problem: str) -> None:
    try:
        root = parse(GOOD.replace(old, new, 1), "routes.yaml")
    except RouteTableError:
        return  # not even YAML as the lab reads it
    assert root is not None
    found = shape_problem(root.value)
    expressible = found != "" and not any(words in found for words in BEYOND)
    assert (not VALIDATOR.is_valid(root.value)) == expressible, found or problem


def test_most_of_the_mistakes_are_said_in_the_editor_already() -> None:
    said = 0
    for old, new, *_ in BAD:
        try:
            root = parse(GOOD.replace(old, new, 1), "routes.yaml")
        except RouteTableError:
            continue
        said += root is not None and not VALIDATOR.is_valid(root.value)
    assert said >= len(BAD) / 2


def test_it_speaks_of_every_field_of_the_language() -> None:
    document = read_path(CHECKOUT / "routes.yaml").document
    assert set(document) == set(json_schema()["properties"])
    use_case = json_schema()["$defs"]["UseCase"]["properties"]
    fields = {
        "callers",
        "override",
        "api",
        "timeout",
        "default",
        "rules",
        "shadow",
        "fallback",
        "idempotent",
        "owner",
        "slo",
        "priority",
    }
    assert fields | set(SETTINGS) == set(use_case)
    assert yaml.safe_load(GOOD)["use_cases"]["UpNext"].keys() <= use_case.keys()
