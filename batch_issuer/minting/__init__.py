"""From requests to keys and certificates: bytes in, bytes out, no files."""
