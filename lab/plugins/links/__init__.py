"""Links between zones: relays that delay, and the fault, the checker and the bench that are about them."""
