"""Prometheus: what to scrape, rules that record rates, errors and durations by topology, and alerts."""

from __future__ import annotations

from typing import Any

from lab.plugins.render._queries import burn, recorded
from lab.plugins.render._target import Rendering, Source, Target, yaml_of

_INTERVAL = "5s"
_COMMENT = """\
Bring the lab up with --metrics. Its addresses are known then: write them beside this file, and again after changes of
its units, by

  lab endpoints --targets > targets.json
  prometheus --config.file prometheus.yml --web.listen-address 127.0.0.1:9090

Load is a target, too, which is up while `lab load` runs."""
# How fast the budget of errors is spent: 1 spends it all in the time that it is for. Both windows must exceed the
# limit, the short one so that an alert ends soon after its cause; see https://sre.google/workbook/alerting-on-slos/.
_ALERTS = (("ErrorBudgetBurnsFast", "5m", "1m", 14.4), ("ErrorBudgetBurnsSlowly", "1h", "5m", 6.0))


def _render(source: Source) -> Rendering:
    # Every lab has the same metrics; what it calls its units is in the targets.
    configuration = {
        "global": {"scrape_interval": _INTERVAL, "evaluation_interval": _INTERVAL},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "lab",
                "scrape_timeout": "4s",
                "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": _INTERVAL}],
            }
        ],
    }
    recording = [
        {"name": name, "rules": [{"record": series, "expr": query} for series, query in rules.items()]}
        for name, rules in recorded(source.slo).items()
    ]
    rules = {"groups": [*recording, {"name": "lab-alerts", "rules": list(_alerts())}]}
    return Rendering({"prometheus.yml": yaml_of([configuration], _COMMENT), "rules.yml": yaml_of([rules])})


def _alerts() -> list[dict[str, Any]]:
    return [
        *(
            {
                "alert": name,
                "expr": f"{burn(long)} > {limit:g} and {burn(short)} > {limit:g}",
                "labels": {"severity": "page" if short == "1m" else "ticket"},
                "annotations": {
                    "summary": f"{{{{ $labels.topology }}}} spends its error budget {limit:g} times too fast"
                },
            }
            for name, long, short, limit in _ALERTS
        ),
        _state("UnitDown", 'up{role!="load"} == 0', "{{ $labels.unit }} cannot be scraped"),
        _state("NodeBehind", 'lab_nodes{state="behind"} > 0', "{{ $value }} of role {{ $labels.role }} are behind"),
    ]


def _state(name: str, expression: str, summary: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": "15s",
        "labels": {"severity": "ticket"},
        "annotations": {"summary": summary},
    }


TARGET = Target(
    "prometheus", "Scrape configuration, rules that record and alerts, for a lab with --metrics", _render, has_slo=True
)
