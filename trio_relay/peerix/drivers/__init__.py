"""What carries signalling packets between the members of a room: one file for each kind of broker."""
