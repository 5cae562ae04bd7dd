"""Values to messages and back: BinaryPack, JSON, MessagePack, and nothing at all."""
