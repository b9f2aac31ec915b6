"""Prometheus' own tool accepts what is rendered, and alerts when it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.plugins.render.agreement import EVERYTHING, render
from tests.prometheus import program

# Of a minute's requests by two topologies, 2 in 100 of one fail: 20 times what the budget allows.
FAILING = """
rule_files: [rules.yml]
evaluation_interval: 5s
tests:
- interval: 5s
  input_series:
  - {series: 'lab_load_requests_total{lab="l", topology="mesh", caller="a", result="ok"}', values: 0+98x120}
  - {series: 'lab_load_requests_total{lab="l", topology="mesh", caller="a", result="failed"}', values: 0+2x120}
  - {series: 'lab_load_requests_total{lab="l", topology="gateway", caller="a", result="ok"}', values: 0+100x120}
  - {series: 'lab_load_requests_total{lab="l", topology="gateway", caller="a", result="failed"}', values: 0+0x120}
  promql_expr_test:
  - expr: lab_topology:requests:rate
    eval_time: 5m
    exp_samples:
    - {labels: 'lab_topology:requests:rate{lab="l", topology="gateway"}', value: 20}
    - {labels: 'lab_topology:requests:rate{lab="l", topology="mesh"}', value: 20}
  - expr: round(lab_topology:error_budget_burn:1m, 0.001)
    eval_time: 5m
    exp_samples:
    - {labels: '{lab="l", topology="gateway"}', value: 0}
    - {labels: '{lab="l", topology="mesh"}', value: 20}
  alert_rule_test:
  - eval_time: 5m
    alertname: ErrorBudgetBurnsFast
    exp_alerts:
    - exp_labels: {severity: page, lab: l, topology: mesh}
      exp_annotations: {summary: mesh spends its error budget 14.4 times too fast}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in render("prometheus", EVERYTHING).files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)


def test_promtool_accepts_configuration_and_rules(folder: Path) -> None:
    (folder / "targets.json").write_text("[]")

    checked = promtool("check", "config", "--lint-fatal", folder / "prometheus.yml")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert "rules found" in checked.stdout


def test_promtool_refuses_a_query_that_is_wrong(folder: Path) -> None:
    rules = folder / "rules.yml"
    rules.write_text(rules.read_text().replace("rate(", "rat(", 1))

    assert promtool("check", "config", folder / "prometheus.yml").returncode != 0


def test_failures_of_one_topology_burn_its_budget_and_alert(folder: Path) -> None:
    (folder / "test.yml").write_text(FAILING)

    checked = promtool("test", "rules", folder / "test.yml")

    assert checked.returncode == 0, checked.stdout


def test_a_lower_objective_leaves_a_larger_budget(folder: Path) -> None:
    for name, text in render("prometheus", EVERYTHING, slo=0.98).files.items():
        (folder / name).write_text(text)
    spent = FAILING.replace("value: 20}\n  alert", "value: 1}\n  alert").replace("exp_alerts:", "exp_alerts: []\n")
    (folder / "test.yml").write_text(spent.split("    - exp_labels", maxsplit=1)[0])

    checked = promtool("test", "rules", folder / "test.yml")

    assert checked.returncode == 0, checked.stdout


def test_an_alert_that_is_not_expected_fails_that_test(folder: Path) -> None:
    (folder / "test.yml").write_text(FAILING.replace("0+2x120", "0+0x120"))

    assert promtool("test", "rules", folder / "test.yml").returncode != 0


def test_the_windows_of_alerts_are_recorded(folder: Path) -> None:
    groups = yaml.safe_load((folder / "rules.yml").read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    asked = {word for group in groups for rule in group["rules"] if "alert" in rule for word in rule["expr"].split()}

    assert {word for word in asked if ":" in word} <= recorded
