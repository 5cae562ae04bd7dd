"""End-to-end sessions: sealed messages between two proven ids (docs/protocol/sessions.md); pure."""
