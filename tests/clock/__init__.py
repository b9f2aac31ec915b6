"""A drill in which the wall clock of a whole lab jumps, Envoys included."""
