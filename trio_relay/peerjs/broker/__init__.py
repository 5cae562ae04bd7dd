"""The broker: PeerServer, wire-compatible with `peer` 1.0."""
