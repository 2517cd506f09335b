"""The process of a :class:`~normswap.runtime.session.Session`: one model, run on request."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, BinaryIO

from normswap.runtime.diagnosis import import_runtime
from normswap.runtime.frames import receive, send
from normswap.runtime.protocol import WorkerError

if TYPE_CHECKING:
    from normswap.runtime.network import Network


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer requests until the other side is gone."""
    network: Network | None = None
    while True:
        try:
            request, arrays = receive(source)
        except EOFError:
            return
        try:
            if network is None:
                import_runtime()  # so that a missing or broken one is told in words
                from normswap.runtime.network import Network

                network = Network(request)
                send(target, {**network.about(), "remarks": list(network.provider.remarks)})
            else:
                results = network.run(request["outputs"], arrays)
                send(target, network.about(), results)
        except WorkerError as error:
            send(target, {"error": error.to_dict()})
        except Exception as error:  # noqa: BLE001 - onnxruntime raises many; the parent tells it
            send(target, {"error": WorkerError("run", " ".join(str(error).split())).to_dict()})


def main() -> None:
    """Serve on standard input and output, which nothing else may write to."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, channel)


if __name__ == "__main__":
    main()
