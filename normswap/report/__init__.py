"""What a command tells: one file an output format."""
