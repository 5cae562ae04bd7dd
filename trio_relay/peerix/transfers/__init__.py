"""Messages in pieces, on their way out and in."""
