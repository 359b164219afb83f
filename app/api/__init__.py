"""The HTTP edge: decode, call the run service, encode."""
