"""The overlay as pure state machines: (state, input, now) -> actions; no I/O, no clock, no randomness."""
