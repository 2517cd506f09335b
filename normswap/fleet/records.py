"""What was done already: a small file a model, in a folder.

A record is written before a model is worked on, and again with what came of it, beside the hashes
of all that was read and written. Whoever finds one whose call and files are still the same has
nothing to do. The process that does the work writes it, so that a run may be killed, or lose a
machine, and what it has done stays done.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normswap.errors import ModelError
from normswap.files.beside import placed
from normswap.fleet import remote
from normswap.fleet.work import Outcome
from normswap.model.hashes import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from normswap.fleet.work import Job


class RunRecord:
    """What was done of one model.

    Parameters
    ----------
    call : Mapping of str to object
        All that its outcome hangs on but for files, as JSON has it.
    """

    def __init__(self, job: Job, call: Mapping[str, Any]) -> None:
        self._path = path_of(job)
        self._job = job
        self._call = dict(call)
        self._found = _read(self._path)

    @property
    def outcome(self) -> Outcome | None:
        """What came of the model, if that still stands."""
        files = self._found.get("files")
        if not files or self._found["call"] != self._call or tags(files) != files:
            return None
        return Outcome(**{**self._found["outcome"], "unchanged": True, "seconds": 0.0})

    @property
    def owns_output(self) -> bool:
        """Whether what is at the output, if anything, is what a run has written, as it was."""
        if not self._found:
            return False
        files = self._found.get("files")
        output = self._job.output
        return files is None or output is None or files.get(output) == tags([output])[output]

    @property
    def was_begun(self) -> bool:
        """Whether a run was killed in the middle of it, maybe after it had written."""
        return bool(self._found) and self._found.get("files") is None

    def begin(self) -> None:
        """Note that the model is worked on from now on."""
        self._write({"call": self._call, "files": None})

    def finish(self, outcome: Outcome, files: Mapping[str, str | None]) -> None:
        """Note what came of it; `files` has the hashes of all that was read and written."""
        self._write({"call": self._call, "files": dict(files), "outcome": outcome.whole()})

    def forget(self) -> None:
        """Note that it is to be done again."""
        self._path.unlink(missing_ok=True)

    def _write(self, what: dict[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(
                f"Folder {self._path.parent} could not be created: {error.strerror}."
            ) from error
        with placed(json.dumps(what), self._path):
            pass


def path_of(job: Job) -> Path:
    """Return where the record of a job is."""
    places = (*job.models, *([] if job.output is None else [job.output]))
    absolute = (each if remote.is_url(each) else str(Path(each).absolute()) for each in places)
    key = "\0".join((job.command, *absolute))
    digest = sha256(key.encode(errors="surrogatepass")).hexdigest()
    return Path(job.records or "", digest[:2], f"{digest[2:]}.json")


def tags(paths: Mapping[str, Any] | list[str]) -> dict[str, str | None]:
    """Return what changes with files: their hashes, or what is told of what is behind a URL."""
    return {
        path: remote.tag(path) if remote.is_url(path) else sha256_of(Path(path)) for path in paths
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
