"""The process runtime: each unit a local process, Envoy from its wheel, no Docker."""

from lab.runtime._runtime import RuntimeKind
from lab.runtime.process.runtime import ProcessRuntime, ProcessSite

__all__ = ["RUNTIME", "ProcessRuntime", "ProcessSite"]

RUNTIME = RuntimeKind(
    name="process",
    reason="local processes run everywhere",
    priority=0,
    obstacle=lambda: "",
    make=ProcessRuntime,
)
