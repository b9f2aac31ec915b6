from tests.e2e.conftest import lab
from tests.load.conftest import fixture_server
from tests.runtime.conftest import compose_lab, engine

__all__ = ["compose_lab", "engine", "fixture_server", "lab"]
