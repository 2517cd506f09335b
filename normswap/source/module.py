"""A torch module as a function of arrays, in float64. Nothing else of the package imports torch."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from normswap.errors import UsageError
from normswap.proof.simulate import signature_of
from normswap.source.binding import Argument, NotTakenError
from normswap.source.layers import ELEMENTS, ModuleLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_SHORTENED = 300  # characters of an error of the module's own


class _Wide(TorchFunctionMode):  # type: ignore[misc]
    """Makes float64 of every narrower type that a module asks for in its ``forward``."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        if func in {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}:
            return args[0].double()
        wide = tuple(_wider(each) for each in args)
        return func(*wide, **{name: _wider(each) for name, each in (kwargs or {}).items()})


def _wider(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


class Module:
    """A torch module, copied, on the CPU, in float64 and in inference mode.

    Parameters
    ----------
    module : torch.nn.Module or torch.export.ExportedProgram
        Is not changed.
    args : tensor, tuple or dict, optional
        Arguments of ``forward``; a dict is its keyword arguments.
    kwargs : dict, optional
        Its keyword arguments.
    title : str
        What to call it.

    Attributes
    ----------
    arguments : tuple of Argument
        The tensors among the arguments, in their order; where none are given, one for each
        positional parameter of ``forward``.

    Raises
    ------
    UsageError
        It is no module, or can't be copied.
    """

    def __init__(
        self,
        module: Any,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        title: str = "",
    ) -> None:
        if isinstance(module, torch.export.ExportedProgram):
            module = module.module()
        if not isinstance(module, torch.nn.Module):
            raise UsageError(
                f"{title or 'The given object'} is not a torch.nn.Module, but a "
                f"{type(module).__name__}.",
                tip="Wrap it in a torch.nn.Module, whose forward calls it.",
            )
        self.title = title or type(module).__name__
        self._flags = {name: each.training for name, each in module.named_modules()}
        self.stored = {
            name: value.detach().cpu()
            for name, value in module.state_dict().items()
            if isinstance(value, torch.Tensor)
        }
        try:
            self._module = copy.deepcopy(module).to("cpu").double()
        except Exception as error:
            raise UsageError(f"{self.title} can't be copied: {_said(error)}") from error
        for each in self._module.modules():
            for name, value in vars(each).items():  # tensors that are no buffers
                if isinstance(value, torch.Tensor) and value.dtype in _NARROW:
                    setattr(each, name, value.detach().cpu().double())
        if any(self._flags.values()):  # what can't be switched, as a program, is as it was exported
            self._module.eval()
        self._leaves: list[Any] = []
        self._spec: Any = None
        self.arguments = self._given(args, kwargs)

    def _given(self, args: Any, kwargs: Mapping[str, Any] | None) -> tuple[Argument, ...]:
        parameters = _parameters(self._module)
        if args is None and not kwargs:
            self._leaves = [None] * len(parameters)
            return tuple(Argument(name, None) for name in parameters)
        if isinstance(args, dict) and not kwargs:
            args, kwargs = (), args
        positional = tuple(args) if isinstance(args, tuple | list) else (args,)
        positional = () if args is None else positional
        paths, self._spec = pytree.tree_flatten_with_path((positional, dict(kwargs or {})))
        found = []
        for path, leaf in paths:
            self._leaves.append(leaf)
            if not isinstance(leaf, torch.Tensor):
                continue
            first = _key(path[1])
            named = first
            if path[0].idx == 0 and int(first) < len(parameters):
                named = parameters[int(first)]
            name = ".".join([named, *map(_key, path[2:])])
            found.append(Argument(name, _stored(leaf)))
        return tuple(found)

    @property
    def version(self) -> str:
        """That of torch."""
        return str(torch.__version__)

    def weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the floats of its state by name, in their own type (bfloat16 in float32)."""
        for name, value in self.stored.items():
            if value.is_floating_point():
                yield name, _stored(value)

    def outputs(
        self,
        arrays: Sequence[np.ndarray],
        *,
        moved: int = 0,
        watch: Callable[[ModuleLayer], None] | None = None,
    ) -> list[np.ndarray]:
        """Return the tensors that it gives, in their order, floats in float64.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One for each of `arguments`, or for the first of them where nobody gave any.
        moved : int
            0 for the module as it is; any other number moves every weight at random within half a
            unit in the last place of its type.
        watch : callable, optional
            Told of each submodule when it is done.

        Raises
        ------
        NotTakenError
            It raises.
        """
        module = self._moved(moved) if moved else self._module
        args, kwargs = self._call(arrays)
        hooks = _watched(module, watch) if watch is not None else []
        try:
            return [_array(each) for each in _tensors(_run(module, args, kwargs))]
        finally:
            for hook in hooks:
                hook.remove()

    def training(self, arrays: Sequence[np.ndarray]) -> tuple[str, ...]:
        """Return the submodules that training mode, where they are in it, makes another function.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            As of :meth:`outputs`.
        """
        if not any(self._flags.values()):
            return ()
        module = copy.deepcopy(self._module)
        acting: dict[str, None] = {}
        hooks = []
        for name, each in module.named_modules():
            each.training = self._flags.get(name, False)
            if each.training and not any(True for _ in each.children()):
                hook = _compared(name, acting)
                hooks.append(each.register_forward_hook(hook, with_kwargs=True))
        args, kwargs = self._call(arrays)
        try:
            trained = [_array(each) for each in _tensors(_run(module, args, kwargs))]
        except NotTakenError:  # as by a batch of one that is to be normalized
            return tuple(acting) or (f"({type(module).__name__})",)
        finally:
            for hook in hooks:
                hook.remove()
        plain = self.outputs(arrays)
        same = len(plain) == len(trained) and all(map(_same, plain, trained))
        return () if same else tuple(acting) or (f"({type(module).__name__})",)

    def _call(self, arrays: Sequence[np.ndarray]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tensors = iter(arrays)
        if self._spec is None:
            return tuple(_tensor(array, None) for array in tensors), {}
        leaves = [
            _tensor(next(tensors), leaf) if isinstance(leaf, torch.Tensor) else leaf
            for leaf in self._leaves
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return args, kwargs

    def _moved(self, seed: int) -> Any:
        module = copy.deepcopy(self._module)
        generator = torch.Generator().manual_seed(seed)
        own = self.stored
        with torch.no_grad():
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                if value.is_floating_point():
                    kind = own[name].dtype if name in own else torch.float32
                    unit = torch.finfo(kind).eps / 2 if kind.is_floating_point else 0.0
                    part = 2 * torch.rand(value.shape, generator=generator, dtype=value.dtype) - 1
                    value.mul_(1 + unit * part)
        return module


def _run(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Wide():
            torch.manual_seed(0)
            return module(*args, **kwargs)
    except Exception as error:
        raise NotTakenError(_said(error)) from error
    finally:
        torch.set_default_dtype(before)


def _watched(module: Any, watch: Callable[[ModuleLayer], None]) -> list[Any]:
    def told(name: str) -> Any:
        def hook(each: Any, args: Any, kwargs: Any, result: Any) -> None:
            outputs = []
            for tensor in _tensors(result):
                array = _array(tensor)
                signature = signature_of(array, ELEMENTS)
                if signature is not None:
                    outputs.append((_key_of(array), tuple(array.shape), signature))
            inputs = tuple(_key_of(_array(tensor)) for tensor in _tensors((args, kwargs)))
            watch(ModuleLayer(name, type(each).__name__, inputs, tuple(outputs)))

        return hook

    return [
        each.register_forward_hook(told(name), with_kwargs=True)
        for name, each in module.named_modules()
        if name
    ]


def _compared(name: str, acting: dict[str, None]) -> Any:
    """Return a hook that notes a layer whose result is another one in inference mode."""

    def hook(each: Any, args: Any, kwargs: Any, result: Any) -> None:
        each.training = False
        plain = each.forward(*args, **kwargs)
        each.training = True
        pairs = zip(_tensors(result), _tensors(plain), strict=False)
        if any(not _same(_array(a), _array(b)) for a, b in pairs):
            acting[f"{name} ({type(each).__name__})"] = None

    return hook


def _parameters(module: Any) -> list[str]:
    """Return the positional parameters of ``forward``."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return []
    return [name for name, each in signature.parameters.items() if each.kind in kinds]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in whatever a module takes or gives, in their order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))


def _tensor(array: np.ndarray, like: Any) -> torch.Tensor:
    if array.dtype.kind not in "biuc":  # floats, those of ml_dtypes included
        return torch.from_numpy(array.astype(np.float64))
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if like is None or tensor.dtype == like.dtype else tensor.to(like.dtype)


def _array(tensor: torch.Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    if plain.is_floating_point():
        plain = plain.double()
    array: np.ndarray = plain.resolve_conj().resolve_neg().numpy()
    return array


def _stored(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor in its own type; one of bfloat16, which NumPy has not, in float32."""
    plain = tensor.detach().cpu()
    array: np.ndarray = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return array


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _key_of(array: np.ndarray) -> bytes:
    """Return what tells a tensor from others; views of one tensor in other shapes are the same."""
    signature = signature_of(array, ELEMENTS)
    return b"" if signature is None else signature.tobytes()


def _key(step: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(step, attribute):
            return str(getattr(step, attribute))
    return str(step)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_SHORTENED]
