"""What yields links: sockets, TLS, HTTP upgrades and the in-process network; all I/O is here.

Lowest first; a file imports only from those above it:

- `connection`: what every transport yields · `addresses`, `urls`: where it is · `streams`, `direct`: over what
- `routes`: who serves a path · `upgrade`: how a request becomes a WebSocket · `admission`: which sockets may stay
- `websocket`, `attached`, `memory_connection`: the connections
- `conversation`, `http`: the listening side · `dial`: the dialling side · `memory_host`, `memory`: both, in process
- `transport`: what a node holds
"""
