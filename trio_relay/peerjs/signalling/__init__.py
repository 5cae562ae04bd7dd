"""A peer's connection to its broker."""
