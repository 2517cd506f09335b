"""A certificate: what was proved of two models, for anybody to make it again from their files.

It names the files by their hashes, and has every cut point with its region; what holds of it is
worked out from the models by :func:`state`, when it is written and when it is verified
(:mod:`normswap.workflows.verify`). docs/certificate.md says what it claims.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import onnx

from normswap.check.options import CheckOptions
from normswap.errors import DataError, ModelError, UsageError
from normswap.groupnorm.intent import Intent, written_out
from normswap.inputs.dims import RequestedSizes
from normswap.inputs.signature import drawing_alike, read_signature
from normswap.model.hashes import external_files, sha256_of
from normswap.plain import AsDict, plain
from normswap.progress import silent
from normswap.proof.files import sides_of
from normswap.proof.identity import tensor_names
from normswap.proof.judge import FLOORS, ONCE, UNITS
from normswap.proof.result import Cut, Means, Standing
from normswap.proof.retrace import Concluded, Judged, Traced, retrace
from normswap.spelling import no_such_file
from normswap.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from normswap.check.report import CheckReport
    from normswap.inputs.signature import Signature
    from normswap.progress import Progress
    from normswap.proof.numbering import Side


@dataclass(frozen=True, slots=True)
class Made:
    """Who made a certificate, of files that were called what; nothing of this is a claim.

    Attributes
    ----------
    normswap, onnx, numpy : str
        Versions.
    original, rewritten : str
        Names of the files.
    """

    normswap: str
    onnx: str
    numpy: str
    original: str
    rewritten: str


@dataclass(frozen=True, slots=True)
class Files:
    """A model by the SHA-256 of its bytes.

    Attributes
    ----------
    data : dict of str to str
        Of the files of its external data, by their locations in the model.
    """

    model: str
    data: dict[str, str]


@dataclass(frozen=True, slots=True)
class CertifiedSizes:
    """The sizes of inputs that regions are judged at.

    Attributes
    ----------
    input_shapes, symbolic_dims : dict
        Those that were asked for, which are the first that are tried.
    tried : tuple of dict of str to list of int
        The shapes of all inputs. Where there are two, what is open is proved for all sizes, as far
        as two tell.
    """

    input_shapes: dict[str, tuple[int, ...]]
    symbolic_dims: dict[str, int]
    tried: tuple[dict[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class TestedOutput:
    """An output that is tested only.

    Attributes
    ----------
    reason : str
        Why it is not proved; no claim.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tested:
    """What is not proved, but tested on inputs.

    Attributes
    ----------
    seed, depth
        Options of the check that found it equivalent.
    """

    seed: int
    depth: Literal["quick", "full"]
    outputs: tuple[TestedOutput, ...]


@dataclass(frozen=True, slots=True)
class Folding:
    """How a fold made the rewritten model.

    Attributes
    ----------
    assume_constant, merge_branches, leftover, max_growth
        Its options.
    plan : dict
        The plan that these lead to, as the report of a fold has it.
    """

    assume_constant: bool
    merge_branches: bool
    leftover: Literal["keep", "affine", "normalize"]
    max_growth: float | None
    plan: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Certificate(AsDict):
    """What is claimed of two models.

    Attributes
    ----------
    verdict : {"proved", "tested"}
        Whether all outputs are proved to be the same function of the inputs.
    values, identical : int
        Tensors that the rewritten model's nodes make, and those that the same operators make of
        the same tensors in the original.
    limits : dict of str to float
        How many floors a region may be off by, by its means: driven; compared as maps; and as maps
        whose operators are the same, where numbers were only ``stored`` anew.
    regions : tuple of Judged
        Those that are equal and not identical, in the rewritten model's order.
    tested : Tested or None
        None where all is proved.
    folding : Folding or None
        None where something else made the rewritten model.
    swapping : tuple of Intent or None
        The BatchNormalizations that are read as group normalizations: `original` is the function
        that is written out with these. None where the rewritten model is the original's.
    """

    made: Made
    original: Files
    rewritten: Files
    sizes: CertifiedSizes
    verdict: Literal["proved", "tested"]
    outputs: tuple[Concluded, ...]
    values: int
    identical: int
    limits: dict[str, float]
    regions: tuple[Judged, ...]
    tested: Tested | None = None
    folding: Folding | None = None
    swapping: tuple[Intent, ...] | None = None

    SCHEMA: ClassVar[str] = "normswap/certificate/1"
    TOLD = ("digest",)

    @property
    def digest(self) -> str:
        """The digest of all the rest, see :func:`digest_of`."""
        content = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        return digest_of({"schema": self.SCHEMA, **content})

    @property
    def requested(self) -> RequestedSizes:
        """The sizes that were asked for."""
        return RequestedSizes(self.sizes.input_shapes, self.sizes.symbolic_dims)

    def __str__(self) -> str:
        """Return the certificate as a file has it."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


VERSIONS = ("normswap", "onnx", "numpy")


def versions_here() -> dict[str, str]:
    """Return the versions of what a certificate is made with."""
    return {"normswap": __version__, "onnx": onnx.__version__, "numpy": np.__version__}


def digest_of(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a certificate without its digest.

    Of its canonical form: UTF-8, keys sorted, no blanks, no escapes but JSON's own, numbers as
    Python writes them.
    """
    content = {key: value for key, value in data.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def certifiable(
    options: CheckOptions | None, path: str | os.PathLike[str], *models: object
) -> Path:
    """Return where a certificate of some models goes, if there may be one of such a check.

    Raises
    ------
    UsageError
        There is no check; or it can't be made again from the two models alone, for it has data,
        tolerances or ranges of a person's own, or proves nothing; or the path is no file's, or is
        a model's.
    """
    if options is None:
        raise UsageError(
            "A certificate needs a check, which is turned off.",
            tip="Leave out either the certificate or --no-check (check=None).",
        )
    plainly = CheckOptions()
    own = ("data", "load_outputs", "tolerances", "value_ranges", "iterations", "against_provider")
    for name in (*own, "arbiter", "proof"):
        if getattr(options, name) != getattr(plainly, name):
            raise UsageError(
                "A certificate can only be made from the models alone, but the check "
                f"also has the option {name!r}.",
                tip="Leave out either the certificate or that option.",
            )
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(
            f"{target} can't be a certificate: it is a folder, or its folder doesn't exist."
        )
    named = [model for model in models if isinstance(model, str | os.PathLike)]
    if target.resolve() in [Path(model).resolve() for model in named]:
        raise UsageError(
            f"{target} is one of the models, and would be overwritten by the certificate.",
            tip="Give the certificate another name.",
        )
    return target


def certify(
    original: Path,
    rewritten: Path,
    report: CheckReport,
    options: CheckOptions,
    *,
    names: tuple[str, str],
    folding: Folding | None = None,
    swapping: tuple[Intent, ...] | None = None,
    progress: Progress = silent,
) -> Certificate:
    """Return the certificate of a check that found two models equivalent.

    Parameters
    ----------
    options : CheckOptions
        Of the check.
    names : (str, str)
        What to call the models.
    """
    progress("certifying")
    proof = report.proof
    cuts = [region.cut for region in proof.regions if region.cut] if proof is not None else []
    requested = RequestedSizes(options.input_shapes, options.symbolic_dims)
    made = Made(**versions_here(), original=names[0], rewritten=names[1])

    def claimed(a: Side, b: Side) -> dict[int, Cut]:
        del a, b
        return {cut.tensor: cut for cut in cuts}

    def certifying(said: str) -> None:
        progress(f"certifying: {said}")

    found, _ = state(original, rewritten, requested, claimed, made, swapping, progress=certifying)
    reasons = {} if proof is None else {output.name: output.reason for output in proof.outputs}
    general = "" if proof is None else proof.reason
    tested = None
    if found.verdict == "tested":
        tested = Tested(
            options.seed,
            "full" if options.full else "quick",
            tuple(
                TestedOutput(output.name, reasons.get(output.name) or general)
                for output in found.outputs
                if output.standing is Standing.OPEN
            ),
        )
    return replace(found, tested=tested, folding=folding, swapping=swapping)


def state(
    original: Path,
    rewritten: Path,
    requested: RequestedSizes,
    claimed: Callable[[Side, Side], Mapping[int, Cut]],
    made: Made,
    swapping: tuple[Intent, ...] | None = None,
    *,
    progress: Progress = silent,
) -> tuple[Certificate, Traced]:
    """Work out from two models what can be claimed of them with some cut points.

    Parameters
    ----------
    claimed : callable
        Returns the cut points, by the rewritten model's tensors.
    swapping : tuple of Intent, optional
        What of the original is read as what.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    Certificate
        Without what is tested, and how it was rewritten.
    Traced
        What it is made of, with the cut points that are none.

    Raises
    ------
    ModelError
        A model can't be read.
    """
    files = _files(original), _files(rewritten)
    tried: list[dict[str, tuple[int, ...]]] = []
    with contextlib.ExitStack() as stack:
        second = read_signature(rewritten)
        try:
            path, home = stack.enter_context(meant(original, swapping))
            first, second = drawing_alike(replace(read_signature(path), home=home), second)
            a, b, tried = sides_of(first, second, requested)
            with np.errstate(all="ignore"):  # infinity and NaN are values like any others here
                traced = retrace(a, b, claimed(a, b), progress=progress)
        except ModelError as error:
            if swapping is None:
                raise
            traced = _nothing(second, str(error))  # it can't be read so
        except Exception as error:  # noqa: BLE001 - of models that break a rule; nothing is proved
            reason = " ".join(str(error).split()) or type(error).__name__
            tried, traced = [], _nothing(second, reason)
    is_whole = traced.outputs and all(o.standing is not Standing.OPEN for o in traced.outputs)
    certificate = Certificate(
        made=made,
        original=files[0],
        rewritten=files[1],
        sizes=CertifiedSizes(dict(requested.shapes), dict(requested.symbols), tuple(tried)),
        verdict="proved" if is_whole else "tested",
        outputs=traced.outputs,
        values=traced.values,
        identical=traced.identical,
        limits={Means.MAPS.value: UNITS, "stored": ONCE, Means.DRIVEN.value: FLOORS},
        regions=traced.regions,
    )
    return certificate, traced


@contextlib.contextmanager
def meant(
    original: Path, swapping: tuple[Intent, ...] | None
) -> Iterator[tuple[Path, Path | None]]:
    """Give the file of what a rewritten model should be, and the folder of its external data.

    That is the original; or what it becomes as it is read for a swap, in a temporary file.
    """
    if swapping is None:
        yield original, None
        return
    with written_out(original, swapping) as found:
        yield found


def _nothing(model: Signature, reason: str) -> Traced:
    outputs = tuple(Concluded(port.name, "", "", Standing.OPEN) for port in model.outputs)
    return Traced(outputs, 0, 0, (), {}, reason)


def _files(path: Path) -> Files:
    hashes = {location: sha256_of(file) for location, file in external_files(path).items()}
    whole = sha256_of(path)
    for name, found in {path.name: whole, **hashes}.items():
        if found is None:
            raise ModelError(f"{name} can't be read, so the certificate can't have its hash.")
    return Files(whole or "", {location: found or "" for location, found in hashes.items()})


def cuts_of(regions: tuple[Judged, ...], a: Side, b: Side) -> Iterator[Cut | str]:
    """Yield the cut points that regions of a certificate claim; text says why one can't be."""
    numbers = [{name: n for n, name in enumerate(tensor_names(side.flat))} for side in (a, b)]
    for region in regions:
        pairs = [(1, region.tensor), (0, region.original)]
        pairs += [(1, pair.tensor) for pair in region.frontier]
        missing = next((name for which, name in pairs if name not in numbers[which]), None)
        if missing is not None:
            yield f"the models have no tensor {missing!r}"
            continue
        tensor, original, *frontier = (numbers[which][name] for which, name in pairs)
        yield Cut(tensor, original, tuple(frontier), region.is_scaled)


WRITTEN_BY = (
    "fold, unfold, bn-to-gn and check write one with --certificate; `normswap verify` takes it "
    "before the two models."
)


def load_certificate(path: Path) -> tuple[Certificate, dict[str, Any]]:
    """Read a certificate; return it, and all that its file has.

    Raises
    ------
    DataError
        The file can't be read, or is no certificate of this form.
    """
    import msgspec

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        tip = WRITTEN_BY if path.exists() else no_such_file(path)
        raise DataError(f"{path} can't be read: {error.strerror or error}.", tip=tip) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a certificate: it is not JSON.", tip=WRITTEN_BY) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != Certificate.SCHEMA:
        raise DataError(
            f"{path} is not a certificate with the schema {Certificate.SCHEMA!r}"
            + (f"; its schema is {schema!r}." if isinstance(schema, str) else "."),
            tip=WRITTEN_BY,
        )
    try:
        return msgspec.convert(data, Certificate), data
    except msgspec.ValidationError as error:
        raise DataError(f"{path} is not a certificate: {error}.") from error
