"""Bytes to values and back, for every format that the overlay speaks; pure."""
