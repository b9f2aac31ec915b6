"""Messages that all inference APIs share."""
