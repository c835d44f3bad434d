"""The options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


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


def known_target(name: str) -> str:
    from edgecnn.recipe import TARGET_NAMES

    if name not in TARGET_NAMES:
        raise click.BadParameter(f"{name!r} is not one of: {', '.join(TARGET_NAMES)}", param_hint="--target")
    return name


data_folders = click.option(
    "--data-dir",
    "data_folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where data sets and weights lie (may be repeated); before EDGECNN_DATA and the download cache.",
)
