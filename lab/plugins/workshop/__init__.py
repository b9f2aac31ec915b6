"""What the notebooks share: a lab that ends with its kernel, pictures, dials, and checks of exercises.

Here belongs what makes a lesson readable. What a lab can do belongs into ``lab.lab``: a notebook shows nothing that the
command would not do as well.
"""

from lab.plugins.workshop.feedback import ExerciseResult
from lab.plugins.workshop.figures import Figure, answer_of, beside, difference, guesses, show, table, timeline
from lab.plugins.workshop.guess import Guess
from lab.plugins.workshop.session import WorkshopLab
from lab.plugins.workshop.slider import slider
from lab.plugins.workshop.traffic import records_of, refused_percent, topology_picture
from lab.plugins.workshop.watch import cut_off, watch

__all__ = [
    "ExerciseResult",
    "Figure",
    "Guess",
    "WorkshopLab",
    "answer_of",
    "beside",
    "cut_off",
    "difference",
    "guesses",
    "records_of",
    "refused_percent",
    "show",
    "slider",
    "table",
    "timeline",
    "topology_picture",
    "watch",
]
