"""What a proof may cost: work, which is the same on every machine, and time, which is not.

Work is counted in multiply-adds, as what is driven with values or simulated takes; to run a node is
some of them. What is linear in the models is not counted. A limit of work leaves the same open
wherever and whenever a proof is made. One of time is there so that nobody waits for ever, and where
it has stopped a proof, that is said; it is the thread's own, so that a busy machine stops no proof.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = 20_000
"""Multiply-adds that running a node takes beside its own."""


@dataclass(slots=True)
class Budget:
    """The work that a proof is given, and the time.

    Attributes
    ----------
    seconds : float
        From the making of this on.
    work : float
        Multiply-adds.
    clock : callable
        That of the thread as a rule; `time.perf_counter` where it is a person who waits.
    spent : float
        Multiply-adds that have been made.
    """

    seconds: float = math.inf
    work: float = math.inf
    clock: Callable[[], float] = time.thread_time
    spent: float = 0.0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self.began = self.clock()

    @property
    def is_late(self) -> bool:
        """Whether time has run out."""
        return self.clock() - self.began > self.seconds

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left."""
        return self.spent > self.work or self.is_late

    @property
    def reason(self) -> str:
        """Why it is over; empty as long as it isn't."""
        if self.spent > self.work:
            return f"the limit of {self.work:.2g} multiply-adds for a proof was reached"
        return f"the limit of {self.seconds:.3g} s for a proof was reached" if self.is_late else ""

    def spend(self, work: float) -> None:
        """Note work that has been done."""
        self.spent += work
