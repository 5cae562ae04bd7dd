"""What servers of more than one slice need: queues of slow clients, who a client is, limits by IP, calls of hooks."""
