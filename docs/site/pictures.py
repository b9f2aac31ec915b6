"""``python -m docs.site.pictures`` draws the pictures of the pages, as files of their own: docs/pictures/*.svg.

Paths and colours come from :mod:`lab.topologies`, what the control plane sends from :mod:`lab.roles`, and names of
units from the smallest lab's spec. A file follows the page that shows it, light or dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import yaml

from docs.site.blocks import pages, write
from docs.site.links import PAGES
from lab.report.palette import DARK, LIGHT, dark_variants
from lab.roles import ROLES
from lab.spec import SIZES, read_spec
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.roles import Role
    from lab.topologies import Topology

FOLDER = PAGES / "pictures"
WIDTH, FONT_PX = 720, 14
CHARACTER_PX = 7.6
"""Width of a character in the widest usual sans-serif font, on average."""
_LINE, _PAD = 18, 11
_COLUMNS = ((1, 140), (257, 184), (585, 134))
"""Left edge and width."""
BUS = 569
"""Where arrows go down from a box of the last column to boxes of lower rows."""
_SENT = "sent"
"""Style of what the control plane sends: dashed, without colour."""


@dataclass(frozen=True, slots=True)
class Box:
    """A unit, or several: lines of text, the first of them bold, in a column, from one row to another."""

    lines: Sequence[str]
    column: int
    row: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """A line between two boxes, with a text above it; ``style`` is a topology or :data:`_SENT`."""

    start: str
    end: str
    label: str
    style: str
    back: bool = False


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Where a box is, px."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes by name, and arrows between them; ``says`` describes both to those who cannot see them."""

    says: str
    boxes: Mapping[str, Box]
    arrows: Sequence[Arrow]
    gap: float = 26

    def rectangles(self) -> dict[str, Rectangle]:
        """Where each box is: rows are as high as the texts of those that have one row."""
        heights = {
            box.row: max(len(each.lines) for each in self.boxes.values() if each.row == box.row and each.last is None)
            for box in self.boxes.values()
            if box.last is None
        }
        tops, y = [], 1.0
        for row in sorted(heights):
            tops.append((y, max(2, heights[row]) * _LINE + 2 * _PAD))
            y += tops[-1][1] + self.gap
        found = {}
        for name, box in self.boxes.items():
            (x, width), (top, height) = _COLUMNS[box.column], tops[box.row]
            end, end_height = (top, height) if box.last is None else tops[box.last]
            found[name] = Rectangle(x, top, width, end + end_height - top)
        return found

    def svg(self) -> str:
        """The file."""
        places = self.rectangles()
        height = max(each.bottom for each in places.values()) + 1
        styles = list(dict.fromkeys(arrow.style for arrow in self.arrows))
        parts = [
            *map(_head, styles),
            *(_box(self.boxes[name], place) for name, place in places.items()),
            *(_line(each, places[each.start], places[each.end]) for each in self.arrows),
        ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            f'height="{height:g}" role="img" aria-label="{escape(self.says)}">\n<style>{_css(styles)}</style>\n'
            + "\n".join(parts)
            + "\n</svg>\n"
        )


def _css(styles: Sequence[str]) -> str:
    colours = {style: TOPOLOGIES[style].colour if style in TOPOLOGIES else LIGHT["quiet"] for style in styles}
    lightened = {style: dark_variants().get(colour, colour) for style, colour in colours.items()} | {
        _SENT: DARK["quiet"]
    }
    return (
        f"text{{font:{FONT_PX}px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;text-anchor:middle}}"
        ".name{font-weight:600}.label{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}"
        f"rect{{stroke-width:1.2}}path{{fill:none;stroke-width:2}}.{_SENT}{{stroke-dasharray:5 4;stroke-width:1.4}}"
        f"{_coloured(LIGHT, colours)}@media (prefers-color-scheme:dark){{{_coloured(DARK, lightened)}}}"
    )


def _coloured(page: Mapping[str, str], lines: Mapping[str, str]) -> str:
    return (
        f"text{{fill:{page['ink']}}}.note{{fill:{page['quiet']}}}.label{{stroke:{page['card']}}}"
        f"rect{{fill:{page['page']};stroke:{page['quiet']}}}"
        + "".join(
            f".{style}{{stroke:{colour}}}.head-{style}{{fill:{colour};stroke:none}}" for style, colour in lines.items()
        )
    )


def _head(style: str) -> str:
    return (
        f'<marker id="{style}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="10" markerHeight="10" '
        f'markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
        f'<path class="head-{style}" d="M0 0L10 5L0 10z"/></marker>'
    )


def _box(box: Box, place: Rectangle) -> str:
    x, top = place.x + place.width / 2, place.y + place.height / 2 - len(box.lines) * _LINE / 2 + 13
    return (
        f'<rect x="{place.x:g}" y="{place.y:g}" width="{place.width:g}" height="{place.height:g}" rx="6"/>'
        + "".join(
            f'<text class="{"note" if number else "name"}" x="{x:g}" y="{top + number * _LINE:g}">{escape(line)}</text>'
            for number, line in enumerate(box.lines)
        )
    )


def _line(arrow: Arrow, start: Rectangle, end: Rectangle) -> str:
    """Level at the middle of the smaller of two boxes side by side, else left, down and left again."""
    if start.y < end.bottom and end.y < start.bottom:
        smaller = min(start, end, key=lambda each: each.height)
        y = smaller.y + smaller.height / 2
        x1, x2 = (start.right + 2, end.x - 2) if start.x < end.x else (start.x - 2, end.right + 2)
        way, x = f"M{x1:g} {y:g}H{x2:g}", (x1 + x2) / 2
    else:
        y, x2 = end.y + 13, end.right + 2
        way, x = f"M{start.x:g} {start.bottom - 9:g}H{BUS}V{y:g}H{x2:g}", (BUS + x2) / 2
    back = f' marker-start="url(#{arrow.style})"' if arrow.back else ""
    return (
        f'<path class="{arrow.style}" d="{way}" marker-end="url(#{arrow.style})"{back}/>'
        f'<text class="label" x="{x:g}" y="{y - 7:g}">{escape(arrow.label)}</text>'
    )


def _both(texts: Mapping[str, Sequence[str]], says: str) -> Picture:
    """Both architectures around a caller; ``texts`` has the lines of each role's box."""
    boxes = {
        "caller": Box(texts["caller"], 0, 0, 2),
        "resolver": Box(texts["resolver"], 1, 0),
        "sidecar": Box(texts["sidecar"], 1, 1),
        "gateway": Box(texts["gateway"], 1, 2),
        "control-plane": Box(texts["control-plane"], 2, 0),
        "model": Box(texts["model"], 2, 1, 2),
    }
    arrows = [*_path("mesh", "payload, key"), *_path("gateway", "payload")]
    sent = [Arrow("control-plane", role, _sent_to(ROLES[role]), _SENT) for role in ("resolver", "sidecar", "gateway")]
    return Picture(says, boxes, [*sent, *arrows])


def _sent_to(role: Role) -> str:
    """What the control plane sends to units of a role."""
    follows = role.follows
    sent = {"rules": follows.rules, "endpoints": follows.endpoints or follows.xds}
    return ", ".join(word for word, is_sent in sent.items() if is_sent)


def _path(topology: str, payload: str, *, question: str = "use case, key", onward: str = "") -> list[Arrow]:
    """The arrows of a topology: what is asked, and each step of the payload."""
    known = TOPOLOGIES[topology]
    asked = [Arrow("caller", role, question, topology, back=True) for role in known.asks]
    steps = zip(known.path, known.path[1:], strict=False)
    labels = [payload, *[onward] * len(known.path)]
    return [*asked, *(Arrow(*step, label, topology) for step, label in zip(steps, labels, strict=False))]


def _of_mini() -> Picture:
    spec = read_spec(SIZES["mini"])
    clusters = yaml.safe_load((SIZES["mini"].parent / spec.routes).read_text())["clusters"]
    (caller,) = spec.callers
    gateways = [f"gateway-{number + 1}" for number in range(spec.gateway.replicas)]
    return _both(
        {
            "caller": (caller, "the caller"),
            "resolver": (f"{caller}-resolver", "knows the rules"),
            "sidecar": (f"{caller}-sidecar", "an Envoy"),
            "gateway": (*gateways, "knows the rules"),
            "control-plane": ("control-plane", "keeps revisions"),
            "model": ("models", *clusters),
        },
        f"The smallest lab. {caller} asks its resolver for a key and sends the payload through its Envoy, or sends "
        f"everything to {gateways[0]}; either passes it on to a model. The control plane sends rules and endpoints.",
    )


def _of_paths() -> Picture:
    shown = [*TOPOLOGIES.values()]
    boxes = {"caller": Box(("caller",), 0, 0, len(shown) - 1), "model": Box(("model",), 2, 0, len(shown) - 1)}
    arrows = []
    for row, topology in enumerate(shown):
        boxes[topology.name] = Box((topology.name, _who_routes(topology)), 1, row)
        arrows += [Arrow("caller", topology.name, "", topology.name), Arrow(topology.name, "model", "", topology.name)]
    each = "; ".join(f"{topology.name}: {topology.route}" for topology in shown)
    return Picture(f"The path of every topology from caller to model. {each}.", boxes, arrows, gap=8)


def _who_routes(topology: Topology) -> str:
    if not topology.capabilities.follows_rules:
        return "hard-coded address"
    if not topology.between:
        return "gRPC reads key"
    what = "key" if topology.asks else "payload" if topology.capabilities.reads_payload else "a header"
    return f"{topology.between[0]} reads {what}"


PICTURES: Mapping[str, Picture] = {
    "overview": _both(
        {
            "caller": ("caller", "names a use", "case, and no", "endpoint"),
            "resolver": ("resolver", "beside the caller"),
            "sidecar": ("Envoy", "beside the caller"),
            "gateway": ("gateway", "reads every payload"),
            "control-plane": ("control plane", "route table"),
            "model": ("model", "in some version,", "on some cluster"),
        },
        "Two architectures. Mesh: a caller asks the resolver beside it for a key, and sends payload and key through "
        "the Envoy beside it to the model. Gateway: it sends the payload to a gateway, which decides and passes it on. "
        "The control plane sends rules to resolver and gateway, and endpoints to Envoy and gateway.",
    ),
    "mini": _of_mini(),
    "units": _both(
        {
            "caller": ("caller", "holds leases", "by use case", "and context"),
            "resolver": ("resolver", "rules, in memory"),
            "sidecar": ("Envoy", "clusters by key,", "fetched on demand"),
            "gateway": ("gateway", "rules, addresses", "of replicas"),
            "control-plane": ("control plane", "revisions, nodes"),
            "model": ("model clusters", "report to the", "control plane", "what they loaded"),
        },
        "What runs, and what each unit holds. The caller asks its resolver with use case and context, and gets a key. "
        "Payload and key go through its Envoy, or the payload alone through a gateway, to a model replica. "
        "The control plane streams rules to resolvers and gateways, and endpoints to Envoys by xDS and to gateways.",
    ),
    "paths": _of_paths(),
    "travel-mesh": Picture(
        "Through the mesh: 1, homepage asks its resolver; 2, the resolver answers with a decision; 3, homepage sends "
        "payload and routing key to the Envoy beside it; 4, Envoy passes both on to the replica ml-cluster-2-a.",
        {
            "caller": Box(("homepage",), 0, 0, 1),
            "resolver": Box(("homepage-resolver", "rules in memory"), 1, 0),
            "sidecar": Box(("homepage-sidecar", "an Envoy"), 1, 1),
            "model": Box(("ml-cluster-2-a", "the model"), 2, 1),
        },
        _path("mesh", "3 payload, key", question="1 ask, 2 key", onward="4 the same"),
    ),
    "travel-gateway": Picture(
        "Through the gateway: 1, homepage sends the payload to gateway-1; 2, the gateway decides by the same rules; 3, "
        "it sends the request to the replica ml-cluster-2-a.",
        {
            "caller": Box(("homepage",), 0, 0),
            "gateway": Box(("gateway-1", "2 decides by the rules"), 1, 0),
            "model": Box(("ml-cluster-2-a", "the model"), 2, 0),
        },
        _path("gateway", "1 payload", onward="3 request"),
    ),
}


def main() -> None:
    """Writes every picture, and shows it on its pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(picture.svg())
    for page in pages():
        write(page, {name: shown(name) for name in PICTURES})


def shown(name: str) -> str:
    """Markdown that shows a picture."""
    return f"![{PICTURES[name].says}](pictures/{name}.svg)"


if __name__ == "__main__":
    main()
