"""One file an operator family; `normswap.semantics.registry` finds them all."""
