"""The pictures of the pages are as the code draws them, can be read, and have words for those who cannot see them."""

import re
from xml.etree import ElementTree as ET

import pytest

from docs.site.blocks import marked, pages
from docs.site.pictures import BUS, CHARACTER_PX, FOLDER, PICTURES, WIDTH, shown
from lab.topologies import TOPOLOGIES

SVG = "{http://www.w3.org/2000/svg}"
LEAST_PX = 13
# Arrows and lines of drawings in text; a tick or an arrow within a sentence is none.
DRAWN = re.compile(r"[─│▼▲▶◀┌┐└┘├┤]")

a_picture = pytest.mark.parametrize("name", PICTURES)


@a_picture
def test_the_file_and_the_page_are_as_the_code_has_them(name: str) -> None:
    found = [marked(page, "picture")[name] for page in pages() if name in marked(page, "picture")]

    assert (FOLDER / f"{name}.svg").read_text() == PICTURES[name].svg(), "`python -m docs.site.pictures` writes it"
    assert [shown(name)] == found
    assert len(PICTURES[name].says) > 100


def test_every_file_is_a_picture_of_a_page() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == PICTURES.keys()


@a_picture
def test_every_text_is_inside_its_box_and_large_enough(name: str) -> None:
    svg, picture = PICTURES[name].svg(), PICTURES[name]
    drawing = ET.fromstring(svg)  # noqa: S314 (made here)

    assert float(drawing.get("width", 0)) == WIDTH <= 760
    assert min(int(size) for size in re.findall(r"font:(\d+)px", svg)) >= LEAST_PX
    for box, place in picture.rectangles().items():
        widest = max(len(line) for line in picture.boxes[box].lines) * CHARACTER_PX
        assert widest <= place.width, box
        assert place.right <= WIDTH, box
    for arrow in picture.arrows:
        start, end = (picture.rectangles()[each] for each in (arrow.start, arrow.end))
        room = max(start.x, end.x) - min(start.right, end.right)
        if start.y < end.bottom and end.y < start.bottom:
            assert len(arrow.label) * CHARACTER_PX <= room, arrow
        else:
            assert len(arrow.label) * CHARACTER_PX <= BUS - end.right, arrow


def test_the_paths_are_those_of_the_topologies() -> None:
    paths = PICTURES["paths"]

    assert paths.boxes.keys() - {"caller", "model"} == TOPOLOGIES.keys()
    assert [each for each in TOPOLOGIES.values() if f".{each.name}{{stroke:{each.colour}}}" not in paths.svg()] == []


def test_no_page_draws_with_letters() -> None:
    assert [page.name for page in pages() if DRAWN.search(page.read_text())] == []
