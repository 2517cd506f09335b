"""Which execution providers can be used here, and what is in the way of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from normswap.errors import ExitCode
from normswap.plain import AsDict
from normswap.runtime.child import run_task
from normswap.runtime.providers import AUTO, CPU, PREFERENCE, full_name, short_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT = 120.0  # seconds; a driver that hangs is not worth more


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One execution provider.

    Attributes
    ----------
    name : str
        onnxruntime's.
    usable : bool
        Whether it has run an addition.
    device : str
        Number and name of its device; empty where that is not known.
    obstacle : str or None
        ``package``, ``libraries``, ``driver``, ``device`` or ``refused``; None where it is usable.
    why, tip : str or None
        What is in the way, and what to do about it.
    """

    name: str
    usable: bool
    device: str = ""
    obstacle: str | None = None
    why: str | None = None
    tip: str | None = None


@dataclass(frozen=True, slots=True)
class Survey(AsDict):
    """The installation of onnxruntime.

    Attributes
    ----------
    packages : Mapping of str to str
        Versions of the packages installed; more than one is one too many.
    runs, version : str
        The package whose files are in place, and the version of the runtime.
    cuda : str or None
        Version of CUDA that it was built for.
    conflict : Mapping of str to str, or None
        ``message`` and ``tip``, where several packages are installed.
    providers : tuple of ProviderStatus
    """

    packages: Mapping[str, str]
    runs: str
    version: str
    cuda: str | None
    conflict: Mapping[str, str] | None
    providers: tuple[ProviderStatus, ...] = field(default=())

    SCHEMA: ClassVar[str] = "normswap/providers/1"
    TOLD = ("auto",)

    @property
    def best(self) -> ProviderStatus:
        """What ``auto`` stands for."""
        usable = {status.name: status for status in self.providers if status.usable}
        return next(
            (usable[name] for name in PREFERENCE if name in usable), ProviderStatus(CPU, True)
        )

    @property
    def auto(self) -> str:
        """Its name."""
        return self.best.name

    @property
    def exit_code(self) -> ExitCode:
        """How a command that only asked ends."""
        return ExitCode.OK

    def status(self, name: str) -> ProviderStatus:
        """Return what is known of a provider, by its short or full name.

        Raises
        ------
        KeyError
            Nothing is.
        """
        full = full_name(name)
        return {status.name: status for status in self.providers}[full]


def survey(options: Mapping[str, Any] | None = None) -> Survey:
    """Try the execution providers, in a child process.

    Parameters
    ----------
    options : Mapping of str to object, optional
        Of providers, such as ``device_id``.

    Raises
    ------
    RunError
        There is no onnxruntime, or trying a provider killed the process.
    """
    response = run_task(
        "normswap.runtime.sessions:survey",
        {"provider_options": dict(options or {})},
        label="trying the execution providers",
        timeout=_TIMEOUT,
    )
    return Survey(
        packages=response["packages"],
        runs=response["runs"],
        version=response["version"],
        cuda=response["cuda"],
        conflict=response["conflict"],
        providers=tuple(ProviderStatus(**entry) for entry in response["providers"]),
    )


def resolve(name: str) -> str:
    """Return the short name of a provider, ``auto`` replaced by what it stands for here."""
    if name.lower() == AUTO:
        return short_name(survey().best.name)
    return short_name(full_name(name))
