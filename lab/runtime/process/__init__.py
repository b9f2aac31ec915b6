"""The process runtime: each unit a local process, Envoy from its wheel, no Docker."""

from lab.runtime._runtime import RuntimeKind
from lab.runtime.process.checks import findings
from lab.runtime.process.runtime import ProcessRuntime, ProcessSite

__all__ = ["RUNTIME", "ProcessRuntime", "ProcessSite"]

RUNTIME = RuntimeKind(
    name="process",
    title="units are local processes",
    reason="local processes run everywhere",
    priority=0,
    obstacle=lambda: "",
    make=ProcessRuntime,
    checks=findings,
)
