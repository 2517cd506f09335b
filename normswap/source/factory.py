"""From ``PKG.FILE:FACTORY`` to a torch module and its arguments."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.errors import RunError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

TIP = (
    "FACTORY is a function without arguments that returns a module in eval mode, or a module and "
    "the arguments of its forward: def make(): return net.eval(), (torch.randn(1, 3, 224, 224),)"
)


def require_torch() -> None:
    """Refuse to go on where torch is not installed.

    Raises
    ------
    RunError
        It is not.
    """
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise RunError(
            f"Comparing a file with its module needs torch, which can't be imported here: {error}.",
            tip="Install it where the packages of the module are: pip install torch (the CPU "
            "build is enough).",
        ) from error


def made_by(place: str) -> tuple[Any, Any, dict[str, Any] | None]:
    """Call a factory; return a module, its positional and its keyword arguments.

    The folder of the process is searched for packages too, as ``python -m`` does. What the factory
    prints goes to standard error.

    Parameters
    ----------
    place : str
        ``package.module:function``, or ``path/to/file.py:function``.

    Raises
    ------
    UsageError
        There is no such function, or it raises, or it returns something else.
    RunError
        torch is not installed.
    """
    require_torch()
    where, colon, name = place.rpartition(":")
    if not colon or not where or not name:
        raise UsageError(f"{place!r} is not of the form PKG.FILE:FACTORY.", tip=TIP)
    with contextlib.redirect_stdout(sys.stderr):
        factory: Any = _imported(where, place)
        for part in name.split("."):
            factory = getattr(factory, part, None)
        if not callable(factory):
            raise UsageError(f"{where} has no function {name!r}.", tip=TIP)
        try:
            made = factory()
        except Exception as error:
            raise UsageError(f"{place} raised {_last(error)}", tip=TIP) from error
    return _parts(made, place)


def _parts(made: Any, place: str) -> tuple[Any, Any, dict[str, Any] | None]:
    if not isinstance(made, tuple):
        return made, None, None
    if len(made) == 2:
        return made[0], made[1], None
    if len(made) == 3 and isinstance(made[2], dict):
        return made
    raise UsageError(
        f"{place} returned {len(made)} values; it must return a module, or a module with "
        "its arguments, or these with its keyword arguments.",
        tip=TIP,
    )


def _imported(where: str, place: str) -> ModuleType:
    try:
        with _searched(Path.cwd()):
            if where.endswith(".py"):
                return _of_file(Path(where))
            return importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise UsageError(f"{where} can't be imported: {error}.", tip=TIP) from error
    except FileNotFoundError as error:
        raise UsageError(f"{where} doesn't exist, so {place!r} can't be called.") from error
    except Exception as error:
        raise UsageError(f"Importing {where} raised {_last(error)}") from error


def _of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # what is defined there may be pickled or copied
    with _searched(path.resolve().parent):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _searched(folder: Path) -> Iterator[None]:
    """Search a folder for modules, behind everything else."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _last(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
