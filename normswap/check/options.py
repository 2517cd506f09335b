"""The options of a check; every field has a sensible default."""

from __future__ import annotations

import enum
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from normswap.errors import UsageError, require_choice

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from normswap.inputs.sets import Data

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Depth(str, enum.Enum):
    """How thorough a check is.

    QUICK is what a rewrite runs by default: two inputs, a short noise floor and one pass of the
    float64 arbiter. FULL adds distributions, a sweep over the batch size, more legal executions
    for the noise floor (numbers of threads, samples in another order) and more samples of the
    weight-rounding floor. PROOF runs nothing: the models are equivalent if that is proved, region
    by region, with no more memory than the largest region takes.
    """

    QUICK = "quick"
    FULL = "full"
    PROOF = "proof"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A tolerance chosen by the user: ``|rewritten - original| <= atol + rtol * |original|``."""

    rtol: float = 0.0
    atol: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How two models are compared.

    Attributes
    ----------
    provider : str
        Execution provider: ``cpu``, ``cuda``, ``tensorrt``, another of onnxruntime's by its short
        or full name, or ``auto`` for the best that runs here.
    provider_options : Mapping[str, Any]
        Options passed to it, such as ``device_id`` and ``gpu_mem_limit`` (bytes). The CPU gets
        none.
    against_provider : str or None
        The provider of the second model, if it is a different one; it gets the same options.
    seed : int
        Makes the inputs, and the Random operators of both models, reproducible.
    depth : Depth
        How thorough the check is.
    input_shapes : Mapping[str, tuple of int]
        Complete shapes by input name; the name ``""`` stands for the only input of a model.
    symbolic_dims : Mapping[str, int]
        Sizes by symbolic dimension name.
    iterations : int or None
        Random inputs per distribution; None lets the depth decide.
    value_ranges : Mapping[str, (float, float)]
        Range of an input's values, by input name; the name ``""`` stands for every input.
    tolerances : Mapping[str, Tolerance]
        Overrides of the tolerance, by output name; ``""`` stands for every output.
    data : path, dict, iterable of dict, or None
        The user's inputs: an ``.npz``, ``.npy`` or ``.pb``, a folder of these or of
        ``test_data_set_*``; or arrays by input name, or an iterable of such dicts. See
        :mod:`normswap.inputs.data`.
    load_outputs : path or None
        Golden outputs (``.npz``) that stand for the original's own.
    arbiter : bool
        Whether the float64 arbiter may be asked.
    batch_invariant : bool
        Also test that the result of a sample does not depend on its batch.
    self_test : int
        Faults to plant in order to measure the check's own power; 0 plants none.
    proof : bool
        Prove, region by region, what can be; where that is all of it, one run of each model is
        left to do at depth QUICK.
    power : bool
        Estimate the power cheaply, from the evidence at hand.
    timeout : float
        Seconds that one child process may take.
    memory_limit : int or None
        Bytes of address space that one child process may take, where the system can limit it.
    """

    provider: str = "cpu"
    provider_options: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    against_provider: str | None = None
    seed: int = 0
    depth: Depth | str = Depth.QUICK
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: _EMPTY)
    symbolic_dims: Mapping[str, int] = field(default_factory=lambda: _EMPTY)
    iterations: int | None = None
    value_ranges: Mapping[str, tuple[float, float]] = field(default_factory=lambda: _EMPTY)
    tolerances: Mapping[str, Tolerance] = field(default_factory=lambda: _EMPTY)
    data: Data | None = None
    load_outputs: str | os.PathLike[str] | None = None
    arbiter: bool = True
    batch_invariant: bool = False
    self_test: int = 0
    proof: bool = True
    power: bool = True
    timeout: float = 600.0
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse a depth that there is not, and what a proof alone has no use for."""
        require_choice("depth", self.depth, [depth.value for depth in Depth])
        if not self.proves_only:
            return
        for field_of in fields(self):
            kept = field_of.name in {"depth", "seed", "input_shapes", "symbolic_dims", "timeout"}
            plain = field_of.default if field_of.default is not MISSING else _EMPTY
            if not kept and getattr(self, field_of.name) != plain:
                raise UsageError(
                    f"A check of depth 'proof' runs neither model, so {field_of.name!r} "
                    "has no effect.",
                    tip="Leave it out, or use depth 'quick' or 'full'.",
                )

    @property
    def full(self) -> bool:
        """Whether the depth is FULL."""
        return Depth(self.depth) is Depth.FULL

    @property
    def proves_only(self) -> bool:
        """Whether the depth is PROOF."""
        return Depth(self.depth) is Depth.PROOF


OFF = "off"
"""What stands for no check, beside the depths."""


def check_options(
    check: Literal["quick", "full", "proof", "off"] | CheckOptions | None,
    *,
    provable: bool = False,
    **options: Any,
) -> CheckOptions | None:
    """Return how a rewrite is checked; None if it is not.

    Parameters
    ----------
    check : {"quick", "full", "proof", "off"}, CheckOptions or None
        None is the same as ``"off"``.
    provable : bool
        Whether the rewrite can be checked by proof alone.
    **options
        Fields of the options, where `check` is only a depth.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if check is None:
        return None
    depths = [depth.value for depth in Depth if provable or depth is not Depth.PROOF]
    if isinstance(check, CheckOptions):
        require_choice("depth", check.depth, depths)
        return check
    require_choice("check", check, [*depths, OFF])
    return None if check == OFF else CheckOptions(depth=check, **options)
