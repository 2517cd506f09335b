"""What a model takes: its signature, sizes for what it leaves open, and values to feed it."""
