"""The nursery that runs one peer: links, dialler, router task and the application's side of them."""
