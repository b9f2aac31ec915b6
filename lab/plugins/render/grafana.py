"""Grafana: dashboards of a lab that Prometheus scrapes, made by Grafana's own library."""

from __future__ import annotations

from lab.errors import InputError
from lab.plugins.render._dashboards import DASHBOARDS, Dashboard
from lab.plugins.render._target import Rendering, Source, Target

_HEIGHT, _SPAN = 8, 12  # of a panel; a row spans 24
_SOURCE = "datasource"


def _render(source: Source) -> Rendering:
    del source  # every lab has the same metrics; a dashboard lets its reader choose the lab
    try:
        return Rendering({f"{each.name}.json": _built(each) for each in DASHBOARDS})
    except ModuleNotFoundError as error:
        raise InputError(f"lab render grafana: {error.name} is not installed: make .venv/with-grafana") from None


def _built(page: Dashboard) -> str:
    from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries  # noqa: PLC0415 (an extra)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415
    from grafana_foundation_sdk.models.dashboard import (  # noqa: PLC0415
        DashboardCursorSync,
        DataSourceRef,
        VariableRefresh,
    )

    source = DataSourceRef(type_val="prometheus", uid=f"${{{_SOURCE}}}")
    labs = dashboard.QueryVariable("lab").label("Lab").datasource(source).query("label_values(up, lab)")
    built = (
        dashboard.Dashboard(page.title)
        .uid(f"lab-{page.name}")
        .tags(["lab"])
        .refresh("5s")
        .time("now-15m", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable(_SOURCE).label("Prometheus").type("prometheus"))
        .with_variable(labs.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED))
    )
    for number, panel in enumerate(page.panels, start=1):
        query = prometheus.Dataquery().ref_id("A").expr(panel.query).legend_format(panel.legend).datasource(source)
        chart = timeseries.Panel().id(number).title(panel.title).unit(panel.unit).datasource(source).min(0)
        built = built.with_panel(chart.span(_SPAN).height(_HEIGHT).with_target(query))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


TARGET = Target("grafana", "Dashboards of a lab that Prometheus scrapes: glance, topologies, roll, …", _render)
