"""What a case of the suite is, and the list of all of them."""

from __future__ import annotations

import functools
import importlib
import itertools
import pkgutil
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.suite.net import Net

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import onnx

BATCH_NORM = ("BatchNormalization",)
DECOMPOSED = ("Sub", "Div", "Mul", "Add", "Sqrt", "Reciprocal", "Pow", "Neg")


@dataclass(frozen=True, slots=True)
class Fold:
    """Every BN but `left` can go, exactly."""

    left: int = 0


@dataclass(frozen=True, slots=True)
class Keep:
    """A look-alike: `left` BNs must stay, or whatever takes their place must be exact."""

    left: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """Fold or keep is a matter of taste; only a wrong result is wrong."""


@dataclass(frozen=True, slots=True)
class Case:
    """One small model and what a fold should make of it.

    Attributes
    ----------
    name, theme : str
        What it is called (theme, function, values); the file it stands in.
    define : callable
        Fills a Net.
    expect : Fold or Keep or Policy
    note : str
        One line: the algebra of a fold, or the reason to keep.
    options : mapping
        opset, ir_version and dtype of the Net.
    residue : tuple of str
        The operators whose number tells how many BNs are left.
    runs_in : {'onnxruntime', 'reference', 'nothing'}
        What can evaluate the original: some legal models are beyond onnxruntime's CPU build.
    tolerance : float
        Largest deviation of an output, relative to its largest absolute value.
    external : bool
        Whether the weights are stored beside the model.
    full_check : bool
        Whether the checker may infer shapes: its inference fails on some legal models.
    """

    name: str
    theme: str
    define: Callable[[Net], None]
    expect: Fold | Keep | Policy
    note: str
    options: Mapping[str, Any] = field(default_factory=dict)
    residue: tuple[str, ...] = BATCH_NORM
    runs_in: str = "onnxruntime"
    tolerance: float = 1e-4
    external: bool = False
    full_check: bool = True

    def net(self) -> Net:
        """Return the filled Net; the same at every call."""
        net = Net(zlib.crc32(self.name.encode()), **self.options)
        self.define(net)
        return net

    def build(self) -> onnx.ModelProto:
        """Return the model."""
        return self.net().model()

    def feeds(self) -> dict[str, np.ndarray]:
        """Return its inputs by name."""
        return self.net().feeds


REGISTRY: list[Case] = []
NET_OPTIONS = frozenset({"opset", "ir_version", "dtype"})


def _register(
    expect: Fold | Keep | Policy,
    note: str,
    *,
    vary: Mapping[str, Sequence[Any]] | None = None,
    **options: Any,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the decorated function, once for each combination of the values in `vary`."""

    def decorate(define: Callable[..., None]) -> Callable[..., None]:
        theme = define.__module__.rpartition(".")[2]
        for values in itertools.product(*(vary or {}).values()):
            chosen = dict(zip(vary or {}, values, strict=True))
            suffix = "".join(f"-{key}-{_label(value)}" for key, value in chosen.items())
            arguments = {k: v for k, v in chosen.items() if k not in NET_OPTIONS}
            net_options = {k: v for k, v in (options | chosen).items() if k in NET_OPTIONS}
            case_options = {k: v for k, v in options.items() if k not in NET_OPTIONS}
            REGISTRY.append(
                Case(
                    f"{theme}.{define.__name__}{suffix}",
                    theme,
                    functools.partial(define, **arguments),
                    expect,
                    note,
                    net_options,
                    **case_options,
                )
            )
        return define

    return decorate


def _label(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "x".join(map(str, value)) or "scalar"
    return getattr(value, "__name__", str(value)).replace(".", "_")


def fold(note: str, *, left: int = 0, **options: Any) -> Callable[..., Any]:
    """Register a model that folds exactly; `note` tells the algebra."""
    return _register(Fold(left), note, **options)


def keep(note: str, *, left: int = 1, **options: Any) -> Callable[..., Any]:
    """Register a look-alike; `note` tells why it can't be folded."""
    return _register(Keep(left), note, **options)


def policy(note: str, **options: Any) -> Callable[..., Any]:
    """Register a model that may be folded or not; `note` tells what speaks for either."""
    return _register(Policy(), note, **options)


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Every case of every file in ``cases/``, in order of theme.

    Raises
    ------
    AssertionError
        Two cases have one name.
    """
    package = importlib.import_module("benchmarks.suite.cases")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"benchmarks.suite.cases.{module}")
    names = [case.name for case in REGISTRY]
    assert len(set(names)) == len(names), sorted({n for n in names if names.count(n) > 1})
    return tuple(REGISTRY)
