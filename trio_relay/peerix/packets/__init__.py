"""What Peerix puts on the wire, encoded and decoded."""
