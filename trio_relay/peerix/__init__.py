"""Peerix for Trio."""
