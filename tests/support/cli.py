"""Run a command in this process, as the shell would see it."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

from normswap.cli import run


@dataclass
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


class _Stream(io.TextIOWrapper):
    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        super().__init__(_Bytes(data, terminal=terminal), encoding="utf-8", write_through=True)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class _Bytes(io.BytesIO):
    def __init__(self, data: bytes, *, terminal: bool) -> None:
        super().__init__(data)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def peek(self, size: int) -> bytes:
        return self.getvalue()[self.tell() :][:size]


def invoke(*arguments, stdin: bytes | None = None, terminal: bool = False) -> Result:
    """Run ``normswap`` with arguments; ``stdin`` is what is piped in, a terminal if None."""
    saved = sys.stdin, sys.stdout, sys.stderr
    out, err = _Stream(terminal=terminal), _Stream(terminal=terminal)
    sys.stdin = _Stream(stdin or b"", terminal=stdin is None)
    sys.stdout, sys.stderr = out, err
    try:
        code = run([str(argument) for argument in arguments])
        out.flush()
        err.flush()
    finally:
        sys.stdin, sys.stdout, sys.stderr = saved
    return Result(int(code), out.buffer.getvalue(), err.buffer.getvalue().decode())
