"""The checkers' reader of route tables, compared with the one that routes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.checkers.plain_table import differences, document_of
from lab.routing.document import Source, read_path, read_sources

CHECKOUT = Path(__file__).parents[2]
TABLES = sorted({*CHECKOUT.glob("*routes*.yaml"), *CHECKOUT.glob("tests/mutants/*routes.yaml")})

SCALARS = """
use_cases:
  Norwegian:
    callers: [homepage, 'search']
    api: ranking.v1
    timeout: 250ms
    default: rows@v1
    rules:
      - {name: seven, when: {country: [NO, 'null', Österreich, on], not: {device: &tv [tv, TV]}}, use: rows@v1}
      - {name: same, when: {device: *tv}, use: rows@v1}
models:
  rows:
    versions:
      v1:
        cluster: a
        config: {a: 1, b: 1.0, c: -2.5e3, d: .5, e: "1", f: yes, g: TRUE, h: False, i: 0x1F, j: 1e3, k: +7, l: 1_000,
                 m: 2024-01-01, n: "12:30", o: 1., p: '', q: [1, two, {three: 3.5}], r: 12:30, s: 0o7, t: 1e-3}
clusters: {a: {replicas: 1}}
"""


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.name)
def test_both_readers_agree_on_the_tables_of_the_lab(file: Path) -> None:
    text = file.read_text()
    document = read_path(file).document
    assert list(differences(document, document_of([text]))) == []
    assert document_of([json.dumps(document)]) == document


def test_there_are_tables_to_compare() -> None:
    assert len(TABLES) >= 3


def test_both_readers_agree_on_every_kind_of_scalar() -> None:
    document = read_sources([Source("-", SCALARS)]).document
    found = document_of([SCALARS])
    assert list(differences(document, found)) == []
    assert json.dumps(found, sort_keys=True) == json.dumps(document, sort_keys=True)


def test_several_files_make_one_table_with_its_defaults() -> None:
    parts = ["models: {a: {versions: {}}}\n", "# nothing\n", "models: {b: {}}\nuse_cases: {U: {}}\ntenants: {}\n"]
    assert document_of(parts) == {
        "use_cases": {"U": {"timeout": "1s"}},
        "models": {"a": {"versions": {}}, "b": {}},
        "clusters": {},
    }


def test_differences_name_their_places() -> None:
    one = {"a": {"b": [1, 2]}, "c": "x", "d": [1]}
    other = {"a": {"b": [1, 2.0]}, "c": "X", "d": [1, 2], "e": 0}
    assert list(differences(one, other)) == [
        "a.b[1]: 2, not 2.0",
        "c: 'x', not 'X'",
        "d: [1], not [1, 2]",
        "e: None, not 0",
    ]


@pytest.mark.parametrize("text", ["- a\n", "{a: [\n", "text"])
def test_what_is_no_table_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a mapping|no YAML"):
        document_of([text])
