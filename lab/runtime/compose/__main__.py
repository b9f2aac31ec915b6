"""``python -m lab.runtime.compose`` writes ``compose/compose.yaml`` and its files: the default lab for Compose alone.

The file is checked in for readers, and a test fails when it is stale.
"""

from __future__ import annotations

from pathlib import Path

from lab import CHECKOUT
from lab.roles import Plan, Port, plan
from lab.routing.document import read_path
from lab.runtime.compose import document, image
from lab.runtime.compose.site import ComposeSite
from lab.runtime.compose.subnets import SUBNETS
from lab.runtime.ports import FIRST
from lab.spec import LabSpec, override, read_spec
from lab.transport.security import PLAINTEXT


class _FixedSite(ComposeSite):
    """The same ports on every machine, whether or not they are free."""

    def port(self, unit: str, name: str, pod: str = "", number: int = 0, group: str = "") -> Port:
        self.ports.setdefault(f"{unit}/{name}", FIRST + len(self.ports))
        return super().port(unit, name, pod, number, group)


def standalone_document(
    site: ComposeSite,
    *,
    project: str = "lab-default",
    image_name: str = f"{image.REPOSITORY}:local",
    file: str = "compose/compose.yaml",
) -> str:
    """A compose file that brings up the default lab without the ``lab`` command, one folder below the checkout."""
    spec, layout = _planned(site)
    setting = document.Setting(
        project=project,
        image=image_name,
        base_image=image.BASE_IMAGES[0],
        subnet=site.subnet,
        hosts=site.hosts,
        security=spec.security.mode,
        context="..",
        title="default lab (lab.toml, routes.yaml)",
        how_made="Made from the lab's plan of units by `make compose-file`; `lab up --runtime compose` runs its like.",
        file=file,
        first_routes="../routes.yaml",
    )
    return document.render(layout, setting)


def standalone_files(site: ComposeSite, folder: Path) -> None:
    """Writes the files of the units into a folder ``files`` beside the compose file."""
    document.write_files(_planned(site)[1], folder)


def _planned(site: ComposeSite) -> tuple[LabSpec, Plan]:
    # In plaintext: `lab up` makes the keys, and nobody else does.
    spec = override(read_spec(CHECKOUT / "lab.toml"), security=PLAINTEXT)
    return spec, plan(spec, read_path(spec.routes), site)


def fixed_site() -> ComposeSite:
    """The site of ``compose/compose.yaml``."""
    return _FixedSite(Path(), {}, SUBNETS[0])


if __name__ == "__main__":
    folder = CHECKOUT / "compose"
    standalone_files(fixed_site(), folder)
    (folder / "compose.yaml").write_text(standalone_document(fixed_site()))
