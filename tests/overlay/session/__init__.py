"""Tests of sessions (docs/protocol/sessions.md)."""
