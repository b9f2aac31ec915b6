"""The formats, one file each."""

from lab.plugins.audit_bench.audit import Format
from lab.registry import Registry

FORMATS = Registry(Format, package=__name__, group="routing_lab.result_formats", noun="result format")
"""All formats, by the tool's name."""
