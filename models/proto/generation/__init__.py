"""Risk score of one payment."""
