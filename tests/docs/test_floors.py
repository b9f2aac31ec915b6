"""The drawing of the floors shows what the linter holds."""

import tomllib
from xml.etree import ElementTree as ET

from docs.site.floors import drawing, floors
from lab import CHECKOUT

SVG = "{http://www.w3.org/2000/svg}"


def test_every_floor_of_the_contract_is_drawn_in_its_order() -> None:
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")

    picture = ET.fromstring(drawing())  # noqa: S314 (made here)

    assert layers == [" : ".join(room.name for room in floor) for floor in floors()]
    drawn = [text.text for text in picture.iter(f"{SVG}text")]
    assert [name for layer in layers for name in layer.split(" : ")] == drawn
    assert len(layers) == sum(rect.get("class") == "floor" for rect in picture.iter(f"{SVG}rect"))


def test_every_room_says_what_belongs_in_it() -> None:
    assert [room.name for floor in floors() for room in floor if not room.purpose] == []


def test_no_room_stands_beside_its_floor() -> None:
    picture = ET.fromstring(drawing())  # noqa: S314 (made here)
    (svg,) = picture.iter(f"{SVG}svg")
    width = float(svg.get("width", 0))

    for rect in picture.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) + float(rect.get("width", 0)) <= width
