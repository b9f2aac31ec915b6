"""What users do, if no other locustfile is named: the example to begin your own with.

    lab load --engine locust --locustfile my_locustfile.py

Tasks are drawn by their weights. ``ask`` waits until this user's next request is due and sends it; what it leaves open
is drawn as `lab load` says. Its result says how it went: ``status``, ``model``, ``version``, …

Give the class a ``wait_time`` (``from locust import between``; ``wait_time = between(1, 3)``), and users wait so long
after each answer, as people do. That is a closed loop: it slows down with what it measures, and the run says so.
"""

from locust import task

from lab.load.locust import LabUser


class Visitor(LabUser):
    """Asks for anything that the caller may ask for."""

    @task(9)
    def ask_for_anything(self) -> None:
        """The usual."""
        self.ask()

    @task(1)
    def ask_from_the_phone(self) -> None:
        """One task in ten."""
        self.ask(context={"device": "phone"})
