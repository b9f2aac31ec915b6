"""Charts as files: one drawing, in colours of its own, and letters on every machine."""

import json
import struct
import sys
import zlib
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import vl_convert
from pydantic import TypeAdapter

from lab.errors import RunError
from lab.report import picture
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.chart import Chart, Line
from lab.report.picture import AnyChart, file_name, to_png, to_svg, write_pictures
from lab.report.scales import linear, logarithmic, payloads, percentiles

LINES = Chart(
    "p50 over payload",
    payloads([400, 27_000]),
    logarithmic("p50, ms", 0.4, 9),
    [Line("mesh", "run-1", [(400, 0.5), (27_000, 8.0)], [(0.4, 0.6), (7.0, 9.0)], dots=True)],
)
CURVE = Chart(
    "All of them",
    percentiles("percentile", 99.9),
    linear("ms", 10),
    [Line("mesh", "run-1", [(0, 1), (99, 8)], [(0, 2), (7, 9)])],
    name="curve",
)
BARS = BarChart("p50", linear("ms", 3), [BarGroup("400 B", [Bar("mesh", "run-1", 1.0, 0.9, 1.2)])])


@pytest.mark.parametrize("chart", [LINES, CURVE, BARS])
def test_a_document_stands_alone(chart: AnyChart) -> None:
    svg = to_svg(chart, "a bench & its <machine>")

    ET.fromstring(svg)  # noqa: S314 (our own)
    assert "var(" not in svg
    assert "a bench &amp; its &lt;machine&gt;" in svg
    assert chart.title in svg


@pytest.mark.parametrize("chart", [LINES, CURVE, BARS])
def test_a_chart_survives_its_way_through_a_file(chart: AnyChart) -> None:
    document = json.loads(json.dumps(asdict(chart)))

    read: AnyChart = TypeAdapter(AnyChart).validate_python(document)

    assert to_svg(chart) == to_svg(read)


def _inked_rows(png: bytes) -> list[bool]:
    """For each row of pixels whether anything but paper is on it."""
    assert png.startswith(b"\x89PNG")
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert (depth, kind) == (8, 6), "RGBA"
    position, packed = 8, b""
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        if png[position + 4 : position + 8] == b"IDAT":
            packed += png[position + 8 : position + 8 + length]
        position += 12 + length
    raw, stride = zlib.decompress(packed), 4 * width + 1
    # Without undoing the filters: a row of paper differs nowhere from its neighbours, whatever the filter.
    return [len(set(raw[row * stride + 5 : (row + 1) * stride])) > 2 for row in range(height)]


def test_an_image_has_letters_without_the_machines_fonts() -> None:
    svg = to_svg(BARS)

    rows = _inked_rows(to_png(svg))
    without = _inked_rows(to_png(svg.replace(">p50</text>", "></text>")))

    assert any(rows[30:64])  # the title is there alone, at two pixels a unit
    assert not any(without[30:64])


def test_files_are_called_by_name_or_title() -> None:
    assert [file_name(each) for each in (LINES, CURVE)] == ["p50-over-payload", "curve"]


def test_pictures_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_pictures(to_svg(BARS), tmp_path / "file" / "bars")


def test_the_script_of_pages_is_bundled_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    bundled = picture.scripts.__wrapped__()
    monkeypatch.setattr(vl_convert, "javascript_bundle", None)  # so that another call fails

    assert picture.scripts.__wrapped__() == bundled
    [kept] = tmp_path.rglob("bundle-*.js")
    assert "vega" in kept.read_text()
