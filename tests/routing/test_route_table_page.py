"""Every example of docs/route-table.md is a part of a valid table, and does what the page says."""

import json
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab.cli.routes import app
from lab.routing.compiled import Router
from lab.routing.document import RouteTable, Source, read_sources

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "route-table.md").read_text()
BLOCKS: list[str] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FIRST, *EXAMPLES = BLOCKS
# Of a use case; other examples are sections of the table.
PARTS = [each for each in EXAMPLES if not each.startswith(("tenants:", "models:"))]
END_OF_USE_CASE = "models:\n"


def table(*parts: str) -> str:
    """The page's first example, with parts of a use case put into it."""
    return FIRST.replace(END_OF_USE_CASE, "".join(textwrap.indent(part, "    ") for part in parts) + END_OF_USE_CASE)


def read(text: str) -> RouteTable:
    return read_sources([Source("docs/route-table.md", text)])


def part(title: str) -> str:
    return next(each for each in PARTS if each.startswith(title) or f"name: {title}" in each)


@pytest.mark.parametrize("example", PARTS, ids=[each.splitlines()[0] + each.splitlines()[-1] for each in PARTS])
def test_every_example_is_valid_in_its_place(example: str) -> None:
    read(FIRST)
    read(table(example))


def test_sections_of_the_table_are_valid_beside_the_others() -> None:
    sections = [each for each in EXAMPLES if each not in PARTS]
    assert len(sections) == 2
    found = read_sources([Source(str(number), text) for number, text in enumerate([FIRST, *sections])])
    assert "tenants" in found.document
    assert {"rows.v1.s1", "rows.v1.s2", "rows.v2.s1", "rows.v2.s2"} <= found.versions.keys()


def test_all_examples_go_together() -> None:
    rules = [each.removeprefix("rules:\n") for each in PARTS if each.startswith("rules:")]
    # What always matches whoever has a user id goes last, and only one such can.
    rules.sort(key=lambda rule: "when:" not in rule)
    others = [each for each in PARTS if not each.startswith("rules:")]
    found = read(table("rules:\n" + "".join(rules[:-1]), *others))
    use_case = found.document["use_cases"]["ContinueWatchingRanking"]
    assert use_case.keys() >= {"rules", "override", "fallback", "shadow", "slo", "priority"}
    assert len(PARTS) == 9


def test_every_part_of_the_language_has_its_example() -> None:
    fields = ("when:", "not:", "use:", "split:", "experiment:", "config:", "override:", "fallback:", "shadow:")
    assert all(any(field in each for each in PARTS) for field in fields)


def test_parameters_are_merged_as_the_page_says() -> None:
    router = Router.of_document(read(table(part("late-night"))).document)
    choice = router.resolve("ContinueWatchingRanking", {"caller": "homepage", "segment": "night"})
    assert choice.parameters == {"diversity": 0.6, "calm": True}


def test_the_command_of_the_page_explains_a_pinned_request(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(table(part("override")))
    [command] = re.findall(r"```sh\nlab routes (.*?)\n```", PAGE)
    result = CliRunner().invoke(app, shlex.split(command.replace("FILE", str(file))))
    assert result.exit_code == 0, result.output
    assert "✓ override" in result.output
    assert "cw-ranker@v3, routing key cw-ranker.v3" in result.output


def test_scripts_get_the_consequences_as_well(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(table(part("ab-12345"), part("fallback"), part("shadow")))
    command = ["explain", "ContinueWatchingRanking", "--user", "u2", "--file", str(file), "--json"]
    found = json.loads(CliRunner().invoke(app, command).stdout)
    assert (found["rule"], found["share"], found["parameters"]) == ("ab-12345", "1", {})
    assert found["fallback"] == ["cw-ranker.v3"]
    assert found["shadow"] == {"routing_key": "cw-ranker.v3", "percent": 10}


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert all((CHECKOUT / "docs" / link).exists() for link in links)
