"""Commands about what builds leave: verify, clean."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import PATH, common, data_folders, json_option
from edgecnn.cli.printing import print_json, terminal_progress
from edgecnn.report.letters import printable

if TYPE_CHECKING:
    from edgecnn.provenance import Checked

UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--rebuild", is_flag=True, help="Build the recipe again, elsewhere, and compare the model files.")
@data_folders
@click.option("--allow-code", is_flag=True, help="With --rebuild: run the Python file of the recipe's model.")
@json_option
@common
def verify(
    folder: Path, rebuild: bool, data_folders: tuple[Path, ...], allow_code: bool, as_json: bool
) -> None:
    """Check the files of a build against the hashes in its build.lock.json.

    With --rebuild the recipe that lies there is built again: on the same machine, with the same versions, the
    model files are the same, byte for byte. Where they are not, it says what went in that was different.
    Exit code 1 where a file is changed, missing or unknown.

    \b
    Examples:
      edgecnn verify artifacts/mnist_lenet5_int8
      edgecnn verify artifacts/mnist_lenet5_int8 --rebuild
    """
    from edgecnn import pipeline, provenance

    found = provenance.check(folder, provenance.read(folder))
    result: dict[str, Any] = {"files": [asdict(one) for one in found]}
    same = all(one.status == "ok" for one in found)
    if not as_json:
        _print_checked(found)
    if rebuild:
        with terminal_progress() as progress:
            again = pipeline.rebuild(
                folder, allow_code=allow_code, data_folders=data_folders, progress=progress
            )
        same = same and again.is_same
        result["rebuilt"] = asdict(again)
        if not as_json:
            click.echo("\nbuilt again:")
            _print_checked(again.files)
            for difference in again.differences:
                click.echo(f"  not the same as then: {printable(difference)}")
    if as_json:
        print_json({**result, "passed": same})
    sys.exit(0 if same else 1)


def _print_checked(found: list[Checked]) -> None:
    for one in found:
        color = "green" if one.status == "ok" else "red"
        click.echo(f"{click.style(f'{one.status:<8}', fg=color)} {printable(one.file)}")


@click.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=PATH)
@click.option("--older-than", metavar="AGE", help="Only what is older, such as 12h, 30d or 2w.")
@click.option("--all", "everything", is_flag=True, help="Also what the build needs to go on quickly.")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@json_option
@common
def clean(
    folders: tuple[Path, ...], older_than: str | None, everything: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove stage results that the finished builds do not need: variants, trials, older versions.

    DIR are build folders; without any, those in artifacts/. Models, reports and recipes stay as they are.

    \b
    Examples:
      edgecnn clean --dry-run
      edgecnn clean artifacts/mnist_lenet5_int8 --older-than 30d
    """
    from edgecnn import build_folder
    from edgecnn.units import format_size

    age_s = _seconds(older_than)
    rows = []
    for folder in folders or _builds_in(Path("artifacts")):
        gone = build_folder.clean(folder, older_than_s=age_s, everything=everything, dry_run=dry_run)
        n_bytes = sum(one.size_bytes for one in gone)
        rows.append({"folder": str(folder), "results": len(gone), "bytes": n_bytes})
        if not as_json:
            done = "would free" if dry_run else "freed"
            click.echo(f"{folder}: {done} {format_size(n_bytes)} of {len(gone)} stage results")
    if as_json:
        print_json({"removed": not dry_run, "builds": rows})
    elif not rows:
        click.echo("no finished builds in artifacts/: name their folders")


def _builds_in(folder: Path) -> list[Path]:
    """The finished builds in `folder`."""
    from edgecnn.provenance import LOCK_FILE

    return sorted(path.parent for path in folder.glob(f"*/{LOCK_FILE}"))


def _seconds(age: str | None) -> float:
    if age is None:
        return 0.0
    match = re.fullmatch(r"(\d+)([mhdw])", age)
    if match is None:
        raise click.BadParameter("a number with m, h, d or w, such as 30d", param_hint="--older-than")
    return int(match[1]) * UNITS_S[match[2]]
