"""A slider, and a picture that is redrawn where it stops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from IPython.display import display

from lab.errors import LabError


@dataclass(frozen=True, slots=True)
class Pending:
    """What is shown while a picture is made: a line that says so, above the previous picture, faded."""

    what: str
    previous: object = None

    def __repr__(self) -> str:
        return f"[measuring {self.what} …]"

    def _repr_html_(self) -> str:
        old = getattr(self.previous, "_repr_html_", str)() if self.previous is not None else ""
        return (
            f'<p role="status"><b>⏳ measuring {escape(self.what)} …</b></p><div style="opacity: .3" inert>{old}</div>'
        )


def slider(label: str, values: Sequence[Any], draw: Callable[[Any], object], *, at: Any) -> None:
    """Shows a slider, and what ``draw`` makes of its value; until that is there, that it is being measured.

    The picture is a separate output: without widgets (a page, a notebook that a program executes) it is drawn once, at
    the slider's first value.

    Args:
        label: the quantity, with its unit.
        values: that it can have, in order.
        draw: value → what to display.
        at: which it begins with.
    """
    slider = _slider(label, values, at)
    if slider is None:
        display(draw(at))  # type: ignore[no-untyped-call]
        return
    display(slider)  # type: ignore[no-untyped-call]
    shown: object = None
    picture = display(Pending(f"{label}: {at}"), display_id=True)  # type: ignore[no-untyped-call]

    def redraw(value: Any) -> None:
        nonlocal shown
        picture.update(Pending(f"{label}: {value}", shown))
        try:
            shown = draw(value)
        except LabError as error:
            shown = Failed(str(error))
        picture.update(shown)

    shown = draw(at)
    picture.update(shown)
    slider.observe(lambda change: redraw(change["new"]), names="value")


@dataclass(frozen=True, slots=True)
class Failed:
    """What is shown where there is no picture: why."""

    why: str

    def __repr__(self) -> str:
        return f"✗ {self.why}"

    def _repr_html_(self) -> str:
        return f'<p role="alert"><b>✗</b> {escape(self.why)}</p>'


def _slider(label: str, values: Sequence[Any], at: Any) -> Any:
    try:
        from ipywidgets import Layout, SelectionSlider  # noqa: PLC0415 (a picture needs no widgets)
    except ImportError:
        return None
    return SelectionSlider(
        options=list(values),
        value=at,
        description=label,
        continuous_update=False,  # some pictures take measuring
        style={"description_width": "initial"},
        layout=Layout(width="560px", max_width="100%"),
    )
