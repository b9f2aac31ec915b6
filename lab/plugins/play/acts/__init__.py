"""The acts: one file each. An act ends with the lab as it found it."""
