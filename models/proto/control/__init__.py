"""What the parts of the lab tell each other apart from payloads."""
