"""How members of a room find each other and agree on their connections."""
