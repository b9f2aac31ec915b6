"""What the notebooks share: a lab that ends with its kernel, pictures, dials, and checks of exercises.

Here belongs what makes a lesson readable. What a lab can do belongs into ``lab.lab``: a notebook shows nothing that the
command would not do as well.
"""

from lab.workshop.feedback import ExerciseResult
from lab.workshop.figures import Figure, beside, guesses, show, table, timeline
from lab.workshop.session import WorkshopLab
from lab.workshop.slider import slider
from lab.workshop.traffic import records_of, topology_picture
from lab.workshop.watch import cut_off, watch

__all__ = [
    "ExerciseResult",
    "Figure",
    "WorkshopLab",
    "beside",
    "cut_off",
    "guesses",
    "records_of",
    "show",
    "slider",
    "table",
    "timeline",
    "topology_picture",
    "watch",
]
