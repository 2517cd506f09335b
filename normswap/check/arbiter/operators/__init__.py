"""One file an operator family; `normswap.check.arbiter.registry` finds them all."""
