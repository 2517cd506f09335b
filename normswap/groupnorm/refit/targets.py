"""What all is fitted to at once: the outputs, and at first what is normalized on the way there.

Few samples have few outputs, and there are many weights that give these. Of them those are wanted
that also give in the middle of the network what the original gives there (Romero et al., "FitNets:
Hints for Thin Deep Nets", 2015): they say more of other samples. By other statistics a layer can't
give quite that, so these targets weigh less every time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from normswap.groupnorm.refit.networks import Pair

WITHIN = 0.72
"""What all tensors on the way weigh together the first time, beside an output."""

FADE = 0.36
"""By what that is multiplied every time."""

ROOM = 1 << 24
"""Elements of the tensors on the way, on all samples: those nearest to the outputs are taken."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor of the student that is to be one of the teacher.

    Attributes
    ----------
    ours, theirs : str
    energy : float
        Of the teacher's, on some samples.
    weight : float
        Beside an output, the first time.
    fade : float
    """

    ours: str
    theirs: str
    energy: float
    weight: float = 1.0
    fade: float = 1.0

    def factor(self, number: int) -> float:
        """Return what differences are multiplied by, the first time (1) or later."""
        return math.sqrt(self.weight * self.fade ** (number - 1) / (self.energy or 1.0))


def find_targets(
    pair: Pair, batches: Iterable[Mapping[str, npt.NDArray[np.generic]]], times: float
) -> list[Target]:
    """Return what is aimed at.

    Parameters
    ----------
    pair : Pair
    batches : iterable of dict of str to ndarray
        Of the teacher: :func:`theirs`, on some samples.
    times : float
        How many samples it is to be on, for each of these.
    """
    ends = dict(zip(pair.student.ends, pair.teacher.ends, strict=True))
    within = _within(pair)
    energy, sizes = dict.fromkeys(theirs(pair), 0.0), dict.fromkeys(theirs(pair), 0)
    for values in batches:
        for name in energy:
            energy[name] += float(np.square(values[name], dtype=np.float64).sum())
            sizes[name] += values[name].size
    room, taken = ROOM, []
    for ours, name in reversed(within.items()):
        room -= math.ceil(times * sizes[name])
        if room < 0:
            break
        taken.append((ours, name))
    return [
        *(Target(ours, name, energy[name]) for ours, name in ends.items()),
        *(Target(o, name, energy[name], WITHIN / len(taken), FADE) for o, name in taken),
    ]


def theirs(pair: Pair) -> list[str]:
    """Return the teacher's tensors that may be aimed at."""
    return list(dict.fromkeys([*pair.teacher.ends, *_within(pair).values()]))


def _within(pair: Pair) -> dict[str, str]:
    """Return results of normalizations from which the way to the outputs is known."""
    made = {v.name for node, _ in pair.route.nodes for v in node.outputs if v is not None}
    return {
        use.y: use.wanted
        for problem in pair.problems
        if problem.affine
        for use in problem.uses
        if use.y in made and use.y not in pair.student.ends
    }
