"""The whole story of each command: load, plan, apply, check, and only then save."""
