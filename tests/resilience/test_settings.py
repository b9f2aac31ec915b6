"""The examples of the page on resilience are valid; bad settings are refused with field and remedy."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from lab.errors import RouteTableError
from lab.routing.document import RouteTable, Source, read_sources
from lab.routing.edits import with_use_cases
from lab.routing.resilience import Breaker, Health, Hedge, Outliers, Policy, Retries
from lab.routing.uses import policies_of

PAGE = (Path(__file__).parents[2] / "docs" / "resilience.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
PARTS = [each for each in EXAMPLES if not each.startswith("clusters:")]
TABLE = """\
use_cases:
  Rows:
    callers: [homepage]
    api: ranking.v1
{first}
    default: rows@v1
    fallback: [rows@v2]
    shadow: {{use: rows@v3, percent: 10}}
  Others:
    callers: [homepage]
    api: ranking.v1
{second}
    default: {default}
models:
  rows:
    versions:
      v1: {{cluster: c}}
      v2: {{cluster: c}}
      v3: {{cluster: c}}
clusters:
  c: {{replicas: 2}}
"""


def table(first: str, second: str = "timeout: 1s", default: str = "rows@v3") -> str:
    first = first if "timeout" in first else f"timeout: 2s\n{first}"
    return TABLE.format(
        first=textwrap.indent(first.rstrip(), "    "), second=textwrap.indent(second, "    "), default=default
    )


def read(text: str) -> RouteTable:
    return read_sources([Source("routes.yaml", text)])


def policy(settings: str) -> Policy:
    return policies_of(read(table(settings)))["rows.v1"]


@pytest.mark.parametrize("part", PARTS)
def test_every_example_of_the_page_is_valid(part: str) -> None:
    read(table(part))


def test_the_page_shows_the_defaults() -> None:
    shown = [policy(part) for part in PARTS]
    assert shown[0].retries == policy("retries: {}").retries == Retries(2, ("unavailable",), 20, 0, 0.025, 0.0)
    assert shown[2].hedge == policy("idempotent: true\nhedge: {after: 30ms}").hedge == Hedge(0.03, 20, 0)
    assert shown[3].outliers == policy("outliers: {}").outliers == Outliers(5, 10.0, 50)
    assert shown[3].health == policy("health: {}").health == Health(1.0, 2)
    assert shown[3].breaker == Breaker(100, 10, 50)
    assert shown[3].slow_start_s == 10.0


def test_a_policy_applies_to_answering_versions_not_to_shadows() -> None:
    assert policies_of(read(table("outliers: {}"))).keys() == {"rows.v1", "rows.v2"}
    assert policies_of(read(table(""))) == {}


BAD = [
    ("hedge: {after: 30ms}", "hedge", "sends a request twice; write 'idempotent: true'"),
    ("idempotent: true\nretries: {}\nhedge: {after: 30ms}", "hedge", "keep hedge or retries"),
    ("idempotent: true\nhedge: {after: 2s}", "hedge.after", "2s is not shorter than the use case's timeout, 2s"),
    ("retries: {per_try: 3s}", "retries.per_try", "3s is not shorter than the use case's timeout, 2s; shorten it"),
    ("retries: {on: [internal], per_try: 1s}", "retries.per_try", "add 'unavailable' to 'on'"),
    ("retries: {on: [aborted]}", "retries.on", "'aborted' is not a status to retry on; known: unavailable"),
    ("retries: {attempts: 1}", "retries.attempts", "1 is not a number of attempts; write a whole number from 2 to 5"),
    ("breaker: {}", "breaker", "bounds nothing; add one of 'requests', 'connections' and 'pending'"),
    ("outliers: {at_most: 0}", "outliers.at_most", "0 is not a percent; write a whole number from 1 to 100"),
    ("health: {every: 1}", "health.every", "1 is not a duration; write it like 250ms or 2s"),
    ("idempotent: yes please", "idempotent", "is not a yes or no; write true or false"),
    ("idempotent: true\nhedge: {}", "hedge.after", "missing field 'after'; add it, like after: 30ms"),
]


@pytest.mark.parametrize(("settings", "field", "message"), BAD)
def test_bad_settings_are_refused_with_field_and_reason(settings: str, field: str, message: str) -> None:
    with pytest.raises(RouteTableError, match=re.escape(message)) as refused:
        read(table(settings))
    assert (refused.value.file, refused.value.field) == ("routes.yaml", f"use_cases.Rows.{field}")


def test_use_cases_that_share_a_version_must_agree() -> None:
    same = {"first": "retries: {attempts: 2}", "second": "timeout: 1s\nretries: {}", "default": "rows@v2"}
    read(table(**same))
    with pytest.raises(RouteTableError) as refused:
        read(table(**same | {"second": "timeout: 1s\nretries: {attempts: 3}"}))
    assert str(refused.value) == (
        "routes.yaml:14: use_cases.Others.retries: 'retries' differs from that of use_cases.Rows, and both may be "
        "answered by rows@v2, whose replicas are treated in one way; make 'retries' equal in both, or give one a "
        "version of its own"
    )
    with pytest.raises(RouteTableError, match=r"'retries' differs from that of use_cases\.Rows") as refused:
        read(table(**same | {"second": "timeout: 1s"}))
    assert (refused.value.line, refused.value.field) == (10, "use_cases.Others")


def test_a_use_case_published_alone_must_agree_too() -> None:
    before = read(table("retries: {}"))
    other = "callers: [homepage]\napi: ranking.v1\ntimeout: 1s\ndefault: rows@v1\n"
    with pytest.raises(RouteTableError, match=r"'retries' differs from that of use_cases\.Rows"):
        with_use_cases(before, {"New": Source("new.yaml", other)})
    after = with_use_cases(before, {"New": Source("new.yaml", other + "retries: {}\n")})
    assert policies_of(after)["rows.v1"].retries is not None


def test_the_example_of_failover_is_valid() -> None:
    [clusters] = [each for each in EXAMPLES if each not in PARTS]
    whole = table("").partition("clusters:")[0].replace("cluster: c}", "cluster: ml-cluster-1}")
    found = read(whole + clusters + "  ml-cluster-3: {replicas: 2}\n")
    assert found.versions["rows.v1"].failover == "ml-cluster-3"
