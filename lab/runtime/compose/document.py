"""Renders a plan of units as a compose file, by the template ``compose/compose.yaml.j2``."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lab import CHECKOUT
from lab.errors import LabError
from lab.links import ROLE as LINK
from lab.roles import CALLER, COLLECTOR, CONTROL_PLANE, MODEL, ROLES, Plan, Port, Role, Unit
from lab.runtime.compose import image
from lab.runtime.pod_site import HOME, IDENTITY, USUAL_PORTS
from lab.topologies import TOPOLOGIES

NETWORK = "lab"
FILES = "files"
"""Folder of the units' files, beside a compose file."""

_FOLDER = CHECKOUT / "compose"
_WIDTH = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a compose file contains beside the plan.

    Attributes:
        project: name of the compose project.
        image: name of the image.
        base_image: image that it is built from, unless ``BASE_IMAGE`` names another.
        subnet: the lab's network.
        hosts: pod, or unit that stands alone → its address.
        security: security mode, ``mtls`` or ``plaintext``.
        context: path of the checkout, from the file's folder.
        title: name of the lab, for the head of the file.
        how_made: a sentence on the origin of the file.
        file: path of the file, for the example in its head.
        identities: folder of this machine with each unit's certificates, in a folder of its name; empty for plaintext.
        first_routes: route table that a service of the file publishes first; empty if ``lab up`` does that.
    """

    project: str
    image: str
    base_image: str
    subnet: IPv4Network
    hosts: Mapping[str, str]
    security: str
    context: str
    title: str
    how_made: str
    file: str
    identities: str = ""
    first_routes: str = ""


def render(layout: Plan, setting: Setting) -> str:
    """The whole compose file."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (YAML, not HTML)
    )
    configs, names = _configs(layout.units)
    roles = [ROLES[name] for name in dict.fromkeys(unit.role for unit in layout.units)]
    groups = [
        {"title": role.title, "units": [unit for unit in layout.with_role(role.name) if unit.pod not in layout.callers]}
        for role in roles
    ]
    pods = [
        {"name": caller, "units": [unit for unit in layout.units if unit.pod == caller]} for caller in layout.callers
    ]
    return environment.get_template("compose.yaml.j2").render(
        **{name: getattr(setting, name) for name in Setting.__slots__},
        groups=[group for group in groups if group["units"]],
        pods=pods,
        control_plane=layout.unit(CONTROL_PLANE),
        roles=roles,
        stages={role.name: role.stage for role in roles},
        health=_health,
        profiles=_profiles([role.name for role in roles]),
        home=HOME,
        identity=IDENTITY,
        host_address=next(setting.subnet.hosts()),
        guests=list(setting.subnet.subnets(new_prefix=24))[-1],
        configs={name: f"./{FILES}/{name}" for name in configs},
        config_name=lambda unit, file: names[unit.name, file],
        command=_command,
        published=_published,
        image_label=image.LABEL,
        checkout=CHECKOUT if not setting.first_routes else "",
    )


def _health(role: Role) -> str:
    """Arguments of the health check in a container of a role."""
    how = role.probe.container
    return f'http, "{USUAL_PORTS["admin"]}", /ready' if how == "http" else f'{how}, "{role.port}"'


def _profiles(roles: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Role → profiles that include it: the topologies that need it and have all their roles here, and ``all``."""
    here = [each for each in TOPOLOGIES.values() if set(each.roles).issubset(roles)]
    shared = (CALLER, MODEL, CONTROL_PLANE, COLLECTOR, LINK)
    return {role: (*(each.name for each in here if role in (*each.roles, *shared)), "all") for role in roles}


def write_files(layout: Plan, folder: Path) -> None:
    """Writes the units' files beside a compose file in this folder, readable by the image's user."""
    contents, _ = _configs(layout.units)
    (folder / FILES).mkdir(exist_ok=True)
    for name, content in contents.items():
        file = folder / FILES / name
        file.write_text(content)
        file.chmod(0o644)


def hosts_of(text: str) -> dict[str, str]:
    """Reads from a compose file: pod, or unit that stands alone → its address.

    Raises:
        LabError: the file is damaged.
    """
    return {
        name.removesuffix("-pod"): service["networks"][NETWORK]["ipv4_address"]
        for name, service in _parsed(text)["services"].items()
        if NETWORK in service.get("networks", {})
    }


def built_images_of(text: str) -> set[str]:
    """The images that a compose file names and builds: the lab's own, and those on top of it.

    Raises:
        LabError: the file is damaged.
    """
    named = {str(service["image"]) for service in _parsed(text)["services"].values()}
    return {each for each in named if each.startswith(image_of(text))}


def image_of(text: str) -> str:
    """The lab's own image, as a compose file names it.

    Raises:
        LabError: the file is damaged.
    """
    return str(_parsed(text)["x-unit"]["image"])


@lru_cache(maxsize=4)  # parsing a whole lab takes tens of milliseconds, and each load needs it twice
def _parsed(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LabError(f"the lab's compose file is damaged ({error}): run `lab down`, then `lab up`") from error


def _configs(units: Iterable[Unit]) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Contents by name, and the name of each unit's file; a file that all units of a role share is there once."""
    units = list(units)
    contents: dict[str, str] = {}
    names = {}
    for unit in units:
        for file, content in unit.files.items():
            same = all(other.files.get(file) == content for other in units if other.role == unit.role)
            name = unit.role if same else unit.name
            if len(unit.files) > 1:
                name += f"-{file.partition('.')[0]}"
            contents[name] = content
            names[unit.name, file] = name
    return contents, names


def _command(unit: Unit) -> str:
    words = [_escaped(shlex.quote(word)) for word in unit.argv]
    return textwrap.fill(
        " ".join(words),
        width=_WIDTH,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _published(port: Port) -> str:
    return f"{port.outside}:{port.bind.rsplit(':', 1)[1]}"


def _escaped(text: str) -> str:
    """The text with each dollar sign doubled, as Compose would substitute a variable otherwise."""
    return text.replace("$", "$$")
