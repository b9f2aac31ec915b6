"""Results as JSON, as JUnit, and as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as ET

from jinja2 import Environment, PackageLoader, StrictUndefined

from lab.plain_text import printable
from lab.plugins.conform.check import Result, Verdict

_SUITE, _MAX_TEXT = "lab conform", 2_000


def as_document(address: str, results: Sequence[Result]) -> dict[str, Any]:
    """The results as JSON: ``address``, ``counts`` by verdict, and ``results``."""
    return {"address": address, "counts": _counts(results), "results": [asdict(each) for each in results]}


def as_junit(address: str, results: Sequence[Result]) -> str:
    """The results as JUnit XML: a test each, skipped if unknown, with figures as properties."""
    counts = _counts(results)
    suite = ET.Element(
        "testsuite",
        name=_SUITE,
        hostname=address,
        tests=str(len(results)),
        failures=str(counts[Verdict.FAIL]),
        skipped=str(counts[Verdict.UNKNOWN]),
        errors="0",
        time=f"{sum(each.seconds for each in results):.2f}",
    )
    for each in results:
        case = ET.SubElement(suite, "testcase", classname="conform", name=each.feature, time=f"{each.seconds:.2f}")
        properties = ET.SubElement(case, "properties")
        about = {"claim": each.claim, "upstream": each.upstream, **each.figures}
        for name, value in about.items():
            ET.SubElement(properties, "property", name=name, value=_xml(value))
        if each.verdict is Verdict.FAIL:
            ET.SubElement(case, "failure", message=_xml(each.reason))
        elif each.verdict is Verdict.UNKNOWN:
            ET.SubElement(case, "skipped", message=_xml(each.reason))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def as_html(address: str, control: str, results: Sequence[Result]) -> str:
    """The results as a page in one file that needs no other."""
    environment = Environment(
        loader=PackageLoader("lab.plugins.conform", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["figures"] = figures_of
    page = environment.get_template("page.html")
    return page.render(address=address, control=control, counts=_counts(results), results=results)


def figures_of(result: Result) -> str:
    """What was measured, in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.figures.items())


def _counts(results: Sequence[Result]) -> dict[str, int]:
    seen = Counter(each.verdict for each in results)
    return {verdict.value: seen[verdict] for verdict in Verdict}


def _xml(value: object) -> str:
    """Text without characters that XML cannot have; a proxy may answer anything."""
    return printable(str(value), _MAX_TEXT)
