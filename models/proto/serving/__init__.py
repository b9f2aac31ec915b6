"""What every inference API shares: who asks, for what, and who answered."""
