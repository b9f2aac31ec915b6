"""What a render target is, what it renders from, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from lab.routing.checks import Path
    from lab.routing.document import RouteTable
    from lab.spec import LabSpec

DEFAULT_SLO = 0.999


@dataclass(frozen=True, slots=True)
class Source:
    """What targets render from; a target takes what it needs.

    Attributes:
        spec: of the lab.
        table: its route table.
        image: of the units, by tag or digest, for a target that deploys them; its own default if empty.
        slo: share of requests that must be answered, above 0 and below 1; the rest is the error budget.
    """

    spec: LabSpec
    table: RouteTable
    image: str = ""
    slo: float = DEFAULT_SLO

    @property
    def mtls(self) -> bool:
        """Whether models expect certificates."""
        return self.spec.security.mode == "mtls"


REFUSED = "its requests without a routing key are refused"
"""What is instead of a decision that a target cannot express: no other rule answers its requests."""


@dataclass(frozen=True, slots=True)
class Unexpressed:
    """A part of the route table, or of the lab's spec, that a target cannot express.

    Attributes:
        path: of the part, keys and indices from the top of the table; its end may be a field that is left out there.
        reason: why the target cannot express it.
        instead: what the rendering does with the requests or setting.
        in_spec: whether the path is one of the spec, ``security.mode``, and not of the table.
    """

    path: Path
    reason: str
    instead: str
    in_spec: bool = False


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a target returns.

    Attributes:
        files: name → text; a name may begin with folders, ``base/pods.yaml``.
        unexpressed: parts of the route table and of the spec that the files do not express, each with its reason.
    """

    files: Mapping[str, str]
    unexpressed: Sequence[Unexpressed] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of program, or of files, that a lab is rendered for.

    Attributes:
        name: as in ``lab render NAME``.
        title: one line for the list of targets.
        render: a pure function.
        deploys: whether the files are the lab itself: they need a folder, and name an image.
        has_slo: whether the files say how fast requests spend an error budget.
    """

    name: str
    title: str
    render: Callable[[Source], Rendering]
    deploys: bool = False
    has_slo: bool = False


_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times faster, where PyYAML has it


class _Dumper(_DUMPER):  # type: ignore[misc]  # it has no types
    """Writes no aliases, which not every reader of manifests follows."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def yaml_of(documents: Iterable[Any], comment: str = "") -> str:
    """Documents as one YAML text, with a comment of one or more lines at the top."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    dumped = [yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True) for each in documents]
    return head + "---\n".join(dumped)
