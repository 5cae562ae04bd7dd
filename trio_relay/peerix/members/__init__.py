"""The other members of a room: their connections, channels and streams."""
