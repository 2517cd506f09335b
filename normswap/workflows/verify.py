"""A certificate verified: its claims made again, from the two models alone."""

from __future__ import annotations

import textwrap
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from normswap.check.options import CheckOptions
from normswap.check.verdict import Verdict
from normswap.errors import ExitCode, ModelError
from normswap.inputs.signature import read_signature, structural_differences
from normswap.model.sources import name_of
from normswap.plain import AsDict, plain
from normswap.progress import Progress, silent
from normswap.workflows.certificate import (
    VERSIONS,
    cuts_of,
    digest_of,
    load_certificate,
    meant,
    state,
    versions_here,
)
from normswap.workflows.check import check_files, file_of
from normswap.workflows.fold import plan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from normswap.model.sources import Source
    from normswap.proof.numbering import Side
    from normswap.proof.result import Cut
    from normswap.proof.retrace import Traced
    from normswap.workflows.certificate import Certificate, Folding, Tested

_AGREEING = 0.01
"""What a deviation may be another on another machine, in floors or in parts of itself."""

_ROUNDING = 64 * 2.0**-53
"""And what float64 itself may do to it, in parts of what is compared."""


@dataclass(frozen=True, slots=True)
class FalseClaim:
    """A claim that does not hold.

    Attributes
    ----------
    claim : str
        Where it is in the certificate, as in ``regions[3].floors``.
    reason : str
        Why it does not hold.
    """

    claim: str
    reason: str

    def __str__(self) -> str:
        """Say it in a sentence."""
        return f"{self.claim}: {self.reason}"


@dataclass(frozen=True, slots=True)
class VerifyReport(AsDict):
    """The result of verifying a certificate.

    Attributes
    ----------
    certificate, original, rewritten : str
        What was read.
    verdict : str
        What is claimed: ``proved`` or ``tested``.
    findings : tuple of FalseClaim
        The claims that do not hold; empty if all do.
    notes : tuple of str
        Anything else worth knowing.
    values, identical, regions, largest : int
        As counted again: tensors of the rewritten model, those that are identical, regions that
        are equal, and the nodes of the largest.
    floors : float
        The largest deviation of a region.
    tested : tuple of str
        Outputs that are only tested, and were tested again.
    seconds : float
    """

    certificate: str
    original: str
    rewritten: str
    verdict: str
    findings: tuple[FalseClaim, ...]
    notes: tuple[str, ...] = ()
    values: int = 0
    identical: int = 0
    regions: int = 0
    largest: int = 0
    floors: float = 0.0
    tested: tuple[str, ...] = ()
    seconds: float = 0.0

    SCHEMA: ClassVar[str] = "normswap/verify/1"
    TOLD = ("holds", "exit_code")

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return not self.findings

    @property
    def exit_code(self) -> ExitCode:
        """How a command that did this ends."""
        return ExitCode.OK if self.holds else ExitCode.FINDINGS


def verify(
    certificate: str | os.PathLike[str],
    original: Source,
    rewritten: Source,
    *,
    progress: Progress = silent,
) -> VerifyReport:
    """Verify every claim of a certificate again, from the two models alone.

    The files are hashed, the tensors numbered, and every region and output judged again; the
    certificate only says where to look. Outputs that it claims as tested are tested again, and the
    plan of a fold is made again. Nothing in it is trusted, except for who made it.

    Parameters
    ----------
    certificate : path
        A file that a rewrite or a check wrote, with ``certificate=`` or ``--certificate``.
    original, rewritten : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        The models. They must be the very files whose hashes are claimed.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    VerifyReport
        ``holds`` says whether every claim holds, ``findings`` which ones do not, and why.

    Raises
    ------
    DataError
        The certificate can't be read, or has another format.
    ModelError
        A model is unreadable or invalid.
    RunError, RunTimeoutError
        If something is to be tested again, and the runtime is unavailable, crashed or timed out.

    Examples
    --------
    >>> import normswap, os, tempfile
    >>> file = os.path.join(tempfile.mkdtemp(), "unet.json")
    >>> folded = normswap.fold("models/unet.onnx", certificate=file).model
    >>> normswap.verify(file, "models/unet.onnx", folded).holds
    True
    >>> folded.graph.node[0].name = "another"
    >>> report = normswap.verify(file, "models/unet.onnx", folded)
    >>> report.holds, report.findings[0].claim
    (False, 'rewritten.model')
    """
    began = time.perf_counter()
    path = Path(certificate)
    claims, data = load_certificate(path)
    with ExitStack() as stack:
        first = stack.enter_context(file_of(original))
        second = stack.enter_context(file_of(rewritten))
        progress("reading both models")
        findings, found = _judged(claims, data, first, second, progress)
        if claims.tested is not None:
            findings += _tested(claims, claims.tested, first, second, progress)
        if claims.folding is not None:
            progress("planning")
            findings += _planned(claims.folding, data, first)
    return VerifyReport(
        certificate=str(path),
        original=name_of(original),
        rewritten=name_of(rewritten),
        verdict=claims.verdict,
        findings=tuple(findings),
        notes=tuple(_notes(claims)),
        values=found.values,
        identical=found.identical,
        regions=len(found.regions),
        largest=max((max(len(r.before), len(r.after)) for r in found.regions), default=0),
        floors=max((region.floors for region in found.regions), default=0.0),
        tested=() if claims.tested is None else tuple(o.name for o in claims.tested.outputs),
        seconds=time.perf_counter() - began,
    )


def _judged(
    claims: Certificate,
    data: dict[str, Any],
    original: Path,
    rewritten: Path,
    progress: Progress,
) -> tuple[list[FalseClaim], Certificate]:
    """Return what does not hold of what is claimed to be proved, and what is."""
    findings = []
    if digest_of(data) != data.get("digest"):
        findings.append(FalseClaim("digest", "the certificate was changed after it was written"))
    looked: list[Cut | str] = []

    def claimed(a: Side, b: Side) -> dict[int, Cut]:
        looked.extend(cuts_of(claims.regions, a, b))
        return {cut.tensor: cut for cut in looked if not isinstance(cut, str)}

    found, traced = state(
        original,
        rewritten,
        claims.requested,
        claimed,
        claims.made,
        claims.swapping,
        progress=progress,
    )
    own = found.to_dict()
    for name in ("original", "rewritten"):
        findings += [
            FalseClaim(other.claim, "it is not the file that was certified")
            for other in _differing(data[name], own[name], name)
        ]
    for name in dict.fromkeys((*own, *data)):
        if name not in _APART:
            findings += _differing(data.get(name, _NOTHING), own.get(name, _NOTHING), name)
    findings += _regions(claims, data, looked, traced)
    differences = structural_differences(*map(read_signature, (original, rewritten)))
    findings += [FalseClaim("outputs", sentence) for sentence in differences]
    open_outputs = [output.name for output in found.outputs if output.standing.value == "open"]
    tested = [] if claims.tested is None else [output.name for output in claims.tested.outputs]
    if tested != open_outputs:
        findings.append(
            FalseClaim(
                "tested",
                f"the outputs {open_outputs} are not proved, but the certificate lists "
                f"{tested} as tested",
            )
        )
    return findings, found


_NOTHING = object()
_APART = frozenset(
    {"made", "digest", "original", "rewritten", "regions", "tested", "folding", "swapping"}
)
"""What of a certificate is no claim, or is looked at by itself."""


def _regions(
    claims: Certificate,
    data: dict[str, Any],
    looked: Sequence[Cut | str],
    traced: Traced,
) -> Iterator[FalseClaim]:
    made = {region.tensor: region for region in traced.regions}
    for at, region in enumerate(claims.regions):
        where = f"regions[{at}]"
        cut = looked[at] if at < len(looked) else traced.reason
        judged = made.get(region.tensor)
        if isinstance(cut, str):
            yield FalseClaim(where, cut)
        elif cut in traced.refused:
            why = traced.refused[cut]
            yield FalseClaim(where, f"{region.tensor!r} is not equal to {region.original!r}: {why}")
        elif judged is None:
            yield FalseClaim(where, f"{region.tensor!r} needs no region, or has several")
        else:
            close = _AGREEING * max(1.0, judged.floors)
            if judged.roundoff:
                close += _ROUNDING / judged.roundoff
            yield from _differing(data["regions"][at], plain(judged), where, close=close)
    order = [region.tensor for region in claims.regions if region.tensor in made]
    if order != [region.tensor for region in traced.regions]:
        yield FalseClaim(
            "regions", "the regions are not listed once each, in the order of the model"
        )


def _tested(
    claims: Certificate, tested: Tested, original: Path, rewritten: Path, progress: Progress
) -> list[FalseClaim]:
    """Test again what is not proved."""
    options = CheckOptions(
        seed=tested.seed,
        depth=tested.depth,
        input_shapes=claims.sizes.input_shapes,
        symbolic_dims=claims.sizes.symbolic_dims,
    )
    with ExitStack() as stack:
        try:
            path, home = stack.enter_context(meant(original, claims.swapping))
        except ModelError as error:
            return [FalseClaim("swapping", str(error))]
        report = check_files(
            path,
            rewritten,
            options,
            names=("", ""),
            progress=progress,
            home=home,
            strict=home is not None,
        )
    if report.verdict is Verdict.EQUIVALENT:
        return []
    why = report.reasons[0] if report.reasons else "no outputs were compared"
    return [FalseClaim("tested", f"the models are {report.verdict.value}: {why}")]


def _planned(folding: Folding, data: dict[str, Any], original: Path) -> list[FalseClaim]:
    """Plan the fold again."""
    made = plan(
        original,
        assume_constant=folding.assume_constant,
        merge_branches=folding.merge_branches,
        leftover=folding.leftover,
        max_growth=folding.max_growth,
    ).plan
    return list(_differing(data["folding"]["plan"], made.to_dict(), "folding.plan"))


def _notes(claims: Certificate) -> Iterator[str]:
    versions = [f"{name} {getattr(claims.made, name)}" for name in VERSIONS]
    if versions != [f"{name} {version}" for name, version in versions_here().items()]:
        yield (
            f"the certificate was made by {', '.join(versions)}; other versions are installed here"
        )


def _differing(claimed: Any, found: Any, where: str, *, close: float = 0.0) -> Iterator[FalseClaim]:
    """Yield where plain data is another than the models give; `close` is for deviations."""
    if isinstance(claimed, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*claimed, *found)):
            inner = claimed.get(key, _NOTHING), found.get(key, _NOTHING)
            yield from _differing(*inner, f"{where}.{key}", close=close)
    elif isinstance(claimed, list) and isinstance(found, list) and len(claimed) == len(found):
        for at, (one, other) in enumerate(zip(claimed, found, strict=True)):
            yield from _differing(one, other, f"{where}[{at}]", close=close)
    elif where.endswith(".floors") and {type(claimed), type(found)} <= {int, float}:
        if not abs(claimed - found) <= close:
            yield _finding(where, claimed, found)
    elif claimed != found or isinstance(claimed, bool) is not isinstance(found, bool):
        yield _finding(where, claimed, found)


def _finding(where: str, claimed: Any, found: Any) -> FalseClaim:
    said, true = (
        "nothing" if v is _NOTHING else textwrap.shorten(repr(v), 120) for v in (claimed, found)
    )
    return FalseClaim(where, f"the certificate has {said}, but the models give {true}")
