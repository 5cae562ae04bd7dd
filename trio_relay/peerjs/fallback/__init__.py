"""How a connection goes on where WebRTC does not: sealed, through a broker or the overlay."""
