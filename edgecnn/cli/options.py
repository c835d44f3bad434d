"""The options and arguments that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgecnn.errors import UsageError


def _keep_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta["edgecnn.debug"] = True


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command has."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_keep_debug,
        help="Show the traceback of a fault.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
PATH = click.Path(path_type=Path)


def refuse_options(reason: str, *names: str) -> None:
    """Raises UsageError where one of these parameters of the command was given, which would do nothing."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise UsageError(f"{parameter.opts[0]} {reason}", fix="leave it out")


def on_target(default: str | None = "host", *, unopened: str | None = None) -> Callable[..., Any]:
    """The options that name a machine; the command is given it opened as `target`. Without a default it must
    be named. For the name `unopened` the command is given None.
    """
    options = (
        click.option(
            "--target",
            default=default,
            required=default is None,
            show_default=default is not None,
            help="The machine: host, user@host, or a name in ~/.config/edgecnn/targets.yaml.",
        ),
        click.option("--ssh-config", type=PATH, metavar="FILE", help="Instead of ~/.ssh/config."),
        click.option("--accept-new-host-key", is_flag=True, help="Trust a board that ssh does not know yet."),
    )

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(target: str, ssh_config: Path | None, accept_new_host_key: bool, **others: Any) -> Any:
            from edgecnn.targets import SSHOptions, open_target

            ssh = SSHOptions(ssh_config, accept_new_host_key, say=lambda text: click.echo(text, err=True))
            machine = None if target == unopened else open_target(target, ssh)
            try:
                return command(target=machine, **others)
            finally:
                if machine is not None:
                    machine.close()

        given: Callable[..., Any] = run
        for option in reversed(options):
            given = option(given)
        return given

    return decorated


data_folders = click.option(
    "--data-dir",
    "data_folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where data sets and weights lie (may be repeated); before EDGECNN_DATA and the download cache.",
)
