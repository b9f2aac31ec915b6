"""JSON is read the quick way only where that gives just what YAML would."""

import json

import pytest

from lab.errors import RouteTableError
from lab.plugins.bench.scale.synthetic_deployment import generate
from lab.routing.document import Source, as_json, read_sources
from lab.routing.yaml_nodes import MAX_DEPTH, parse


def test_json_and_yaml_give_the_same_table() -> None:
    text = json.dumps(generate(clusters=60, callers=5, use_cases=40).document)
    slowly = parse(text, "t.yaml")

    assert slowly is not None
    assert slowly.value == as_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "models: {}",
        "[1]",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e3}',
        '{"a": 9999999999999999999}',
        '{"a": "\\u00e9"}',
        '{"a": "é"}',
        "{" + '"a": {' * MAX_DEPTH + "}" * MAX_DEPTH + "}",
    ],
)
def test_text_that_yaml_might_read_otherwise_is_left_to_it(text: str) -> None:
    assert as_json(text) is None


def test_mistakes_in_json_are_named_with_their_line() -> None:
    document = generate(clusters=20, callers=2, use_cases=4).document
    text = json.dumps(document, indent=1).replace('"ranking.v1"', '"ranking.v9"', 1)

    with pytest.raises(RouteTableError, match=r"t.yaml:\d+: use_cases\.\w+\.api: api 'ranking.v9' is not one"):
        read_sources([Source("t.yaml", text)])
