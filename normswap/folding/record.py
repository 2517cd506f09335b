"""What a draft knows of one normalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normswap.folding.plan import Folded, Kept
    from normswap.graph.normalization import Normalization, Site


@dataclass(frozen=True, slots=True)
class Record:
    """A normalization and what becomes of it.

    Attributes
    ----------
    whole : Normalization
        As it was found last. Edits may have changed it since: see
        :meth:`normswap.graph.normalization.Normalization.present`.
    site : Site
        What it is told as: where it was found first.
    found : int
        The key of its last node then.
    fate : Folded, Kept or None
        None where that is not known yet, or where another one's route has taken it apart.
    certain : bool
        Whether it is told even if it is kept.
    late : bool
        Whether edits have made it: then it is none of the model's.
    told : Kept or None
        As what it was kept when it got another form. It is told as that, whatever blocks the form.
    """

    whole: Normalization
    site: Site
    found: int
    fate: Folded | Kept | None = None
    certain: bool = True
    late: bool = False
    told: Kept | None = None
