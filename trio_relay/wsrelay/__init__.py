"""A relay server for clients that can not reach each other, wire-compatible with `@sumicom/ws-relay` 0.1.2."""
