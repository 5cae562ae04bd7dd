"""What a relay server answers to plain HTTP requests."""
