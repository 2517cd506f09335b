"""Each command from beginning to end: load, plan, apply, check, and only then save."""
