"""A model in a process of its own, that is loaded once and run many times.

The check runs each model once, in a process that is gone afterwards; calibration and drift need
many runs of a few tensors each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.runtime.child import Child, threads_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

_NAMED = 8  # nodes that did not run where they should, in a sentence


class Session(Child):
    """A loaded model.

    Parameters
    ----------
    model : Path
    label : str
        What to call it in messages.
    taps : Mapping[str, int]
        Tensors that may be asked for besides the outputs, and their ``TensorProto.DataType``.
    provider : str
    provider_options : Mapping[str, Any]
        Options handed to it.
    level : str
        ``"default"``, or ``"disabled"`` for no optimizations.
    alike : bool
        Whether random operators draw the same numbers in every run, and in every model that
        has them, which is what two models are compared with.
    threads : int
        0 for as many as there are cores. Else NumPy has no more in this process either.
    remembered : int
        How many parts of the model stay loaded, of those that runs asked for.
    timeout : float
        Seconds that loading, or one run, may take.

    Raises
    ------
    RunError
        If the runtime can't load or run the model, or died of it.
    RunTimeoutError
        If it took too long.
    """

    def __init__(
        self,
        model: Path,
        *,
        label: str,
        taps: Mapping[str, int] | None = None,
        provider: str = "cpu",
        provider_options: Mapping[str, Any] | None = None,
        level: str = "default",
        alike: bool = False,
        threads: int = 0,
        remembered: int = 4,
        timeout: float = 600.0,
    ) -> None:
        options = dict(provider_options or {})
        environment = threads_of(threads) if threads else {}
        super().__init__(label, timeout=timeout, provider_options=options, environment=environment)
        request = {
            "model": str(Path(model).resolve()),
            "taps": taps or {},
            "provider": provider,
            "provider_options": options,
            "level": level,
            "alike": alike,
            "threads": threads,
            "remembered": remembered,
        }
        try:
            loaded = self.call("normswap.runtime.partial:load", request)
        except BaseException:
            self.close()
            raise
        self.provider: str = loaded["provider"]
        self._remarks: list[str] = loaded["remarks"]
        self._elsewhere: list[str] = []

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        outputs: Sequence[str] = (),
        *,
        part: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Compute tensors of the model, and nothing that they don't need.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            Inputs; or any tensors in the middle of the network, which are then not computed.
        outputs : sequence of str
            Outputs and taps; all outputs if left out.
        part : sequence of str
            Outputs and taps that other runs ask for: then what computes them too does for this one,
            and is not loaded twice.
        """
        request = {"feeds": feeds, "outputs": list(outputs), "part": list(part)}
        answer = self.call("normswap.runtime.partial:run", request)
        self._elsewhere = answer["elsewhere"]
        results: dict[str, np.ndarray] = answer["results"]
        return results

    def hold(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Let inputs have values in all runs from now on that don't say otherwise."""
        self.call("normswap.runtime.partial:hold", {"feeds": feeds})

    @property
    def notes(self) -> list[str]:
        """What a person should know of where the model was run; nothing of the CPU."""
        notes = list(self._remarks)
        if self._elsewhere:
            named = ", ".join(self._elsewhere[:_NAMED])
            more = f" and {len(self._elsewhere) - _NAMED} more" * (len(self._elsewhere) > _NAMED)
            notes.append(
                f"{len(self._elsewhere)} nodes of {self.label} did not run in {self.provider}: "
                f"{named}{more}"
            )
        return notes

    def __enter__(self) -> Session:  # noqa: PYI034 - typing.Self is there from Python 3.11 on
        return self
