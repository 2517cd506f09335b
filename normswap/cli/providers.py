"""``normswap providers``."""

from __future__ import annotations

import click

from normswap.cli.telling import format_options, telling
from normswap.errors import ExitCode


@click.command("providers")
@click.option(
    "--device-id",
    type=click.IntRange(min=0),
    metavar="N",
    help="Device to use, if there are several.",
)
@click.option(
    "--require", metavar="NAME", help="End with exit code 4 if this provider can't be used."
)
@format_options
def providers_command(device_id: int | None, require: str | None) -> ExitCode:
    """List the execution providers that run here, and why the others don't.

    Each is tried on a small model, without a fallback to another provider.
    """
    from normswap.runtime.providers import full_name
    from normswap.runtime.survey import survey

    found = survey({} if device_id is None else {"device_id": str(device_id)})
    usable = {status.name for status in found.providers if status.usable}
    code = ExitCode.OK if require is None or full_name(require) in usable else ExitCode.RUN
    telling().tell(found, exit_code=code)
    return code
