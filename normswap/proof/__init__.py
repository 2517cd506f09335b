"""What is known for certain of a model: its values in float64, and whether a test sees a fault."""
