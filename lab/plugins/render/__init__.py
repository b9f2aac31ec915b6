"""Renders a lab's route table, or its plan, for programs that people already run: one file per target.

Here belong pure functions from spec and route table to files. To add a target, add a file here, name its module by an
entry point of the group ``routing_lab.targets``, or give the file to ``--plugin``.
"""

from lab.plugins.render._target import DEFAULT_SLO, Rendering, Source, Target, Unexpressed, yaml_of
from lab.registry import Registry

__all__ = ["DEFAULT_SLO", "TARGETS", "Rendering", "Source", "Target", "Unexpressed", "yaml_of"]

TARGETS = Registry(Target, package=__name__, group="routing_lab.targets", noun="render target")
"""All render targets, by name."""
