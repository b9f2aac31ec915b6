"""The page's table of what a target expresses is what renderings list."""

import re

import pytest

from lab import CHECKOUT
from lab.plugins.render import TARGETS
from lab.routing.resilience import SETTINGS
from tests.plugins.render.agreement import EVERYTHING, render

PAGE = (CHECKOUT / "docs" / "rendering.md").read_text()
TABLE = re.search(r"^\| part of the table .*?(?=\n\n)", PAGE, re.DOTALL | re.MULTILINE)
assert TABLE is not None
HEADINGS, _, *ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in TABLE[0].splitlines()
]


def cells(target: str) -> dict[str, str]:
    return {row[0]: row[HEADINGS.index(target)] for row in ROWS}


@pytest.mark.parametrize("target", HEADINGS[1:])
def test_a_setting_that_the_page_says_is_expressed_is_not_listed(target: str) -> None:
    listed = {each.path[2:] for each in render(target, EVERYTHING).unexpressed if each.path[0] == "use_cases"}

    for field in ("timeout", *SETTINGS):
        cell = cells(target).get(field, "no")  # a hedge is in the row of what nobody expresses
        assert (cell == "yes") <= (not any(path[0] == field for path in listed)), (field, cell)
        assert (cell == "no") <= ((field,) in listed), (field, cell)


@pytest.mark.parametrize("target", HEADINGS[1:])
def test_the_page_says_which_targets_have_mutual_tls(target: str) -> None:
    listed = {each.path for each in render(target, EVERYTHING).unexpressed if each.in_spec}

    assert listed == (set() if cells(target)["mutual TLS to models"] == "yes" else {("security", "mode")})


def test_the_page_has_all_targets_of_proxies() -> None:
    assert set(HEADINGS[1:]) <= set(TARGETS)
    assert {"aws", "envoy-gateway", "gateway-api", "istio", "kong", "linkerd"} <= set(HEADINGS)
