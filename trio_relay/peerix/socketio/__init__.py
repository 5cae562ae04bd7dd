"""What Socket.IO clients and servers write to each other: Engine.IO packets, and Socket.IO packets inside them."""
