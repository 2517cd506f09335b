"""``normswap providers``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from normswap.errors import ExitCode

if TYPE_CHECKING:
    from normswap.runtime.survey import Survey


@click.command("providers", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device-id", type=click.IntRange(min=0), metavar="N", help="Which of several.")
@click.option("--require", metavar="NAME", help="End with exit code 4 if this one can't be used.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def providers_command(device_id: int | None, require: str | None, *, as_json: bool) -> ExitCode:
    """Say which execution providers run here, and what is in the way of the others.

    Each is tried on a small model, with no other provider to take its place.
    """
    from normswap.runtime.survey import survey

    found = survey({} if device_id is None else {"device_id": str(device_id)})
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _show(found)
    if require is None:
        return ExitCode.OK
    return ExitCode.OK if _is_usable(found, require) else ExitCode.RUN


def _is_usable(found: Survey, name: str) -> bool:
    from normswap.runtime.providers import full_name

    return any(status.usable and status.name == full_name(name) for status in found.providers)


def _show(found: Survey) -> None:
    from normswap.runtime.providers import short_name

    built_for = f", built for CUDA {found.cuda}" if found.cuda else ""
    click.echo(f"{found.runs} {found.version}{built_for}")
    for status in found.providers:
        name = short_name(status.name)
        word = "yes" if status.usable else "no"
        click.echo(f"  {name:<12}{word:<5}{status.device or status.why or ''}".rstrip())
        if status.tip:
            click.echo(f"{'':19}{status.tip}")
    click.echo(f"auto is {short_name(found.best.name)}")
    if found.conflict:
        click.echo(f"{found.conflict['message']}\n{found.conflict['tip']}")
