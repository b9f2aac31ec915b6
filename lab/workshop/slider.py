"""A slider, and a picture that is redrawn where it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.display import display

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def slider(label: str, values: Sequence[Any], draw: Callable[[Any], object], *, at: Any) -> None:
    """Shows a slider, and what ``draw`` makes of its value.

    The picture is a separate output: without widgets (a page, a notebook that a program executes) it is drawn once, at
    the slider's first value.

    Args:
        label: the quantity, with its unit.
        values: that it can have, in order.
        draw: value → what to display.
        at: which it begins with.
    """
    slider = _slider(label, values, at)
    if slider is not None:
        display(slider)  # type: ignore[no-untyped-call]
    picture = display(draw(at), display_id=True)  # type: ignore[no-untyped-call]
    if slider is not None:
        slider.observe(lambda change: picture.update(draw(change["new"])), names="value")


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
