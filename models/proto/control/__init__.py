"""The lab's control APIs, apart from inference."""
