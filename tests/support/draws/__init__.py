"""Drawn cases of every operator, at every opset at which its meaning changed."""
