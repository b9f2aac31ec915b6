from tests.parts import control_plane, model

__all__ = ["control_plane", "model"]
