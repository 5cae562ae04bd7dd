"""Data and media connections."""
