"""All rules: whoever imports this has them."""

from normswap.groupnorm.refit.adjoints import elementwise, linear, moving, normalizing, reducing
from normswap.groupnorm.refit.adjoints.base import RULES, Step, rule_of

__all__ = ["RULES", "Step", "elementwise", "linear", "moving", "normalizing", "reducing", "rule_of"]
