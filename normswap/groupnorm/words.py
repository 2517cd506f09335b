"""What the options of a swap are given as, and what they are if nothing is said.

They are apart from the options themselves because a shell that completes them waits for them.
"""

from __future__ import annotations

from typing import Final

DEFAULT_GROUPS = 32

CHANNELS: Final = "channels"
"""In place of a number of groups: one for every channel."""

AUTO = "auto"
"""In place of a form: the fastest, by what is known of the opset, shape and provider."""

FASTEST = "fastest"
"""In place of a form: the fastest, by runs here."""

SHARE = 0.25
"""Of the samples of a data set, or of its units, what is held out."""
