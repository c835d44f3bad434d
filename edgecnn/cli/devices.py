"""Commands for the boards that models run on: doctor, deploy, count."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli.options import PATH, common, data_folders, json_option, on_target, refuse_options
from edgecnn.cli.printing import print_json, terminal_progress

if TYPE_CHECKING:
    from edgecnn.targets.target import Target


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL...]", type=PATH)
@on_target()
@click.option("--fix", is_flag=True, help="Install a fitting runtime on the board, in ~/edgecnn/venv.")
@json_option
@common
def doctor(models: tuple[Path, ...], target: Target, fix: bool, as_json: bool) -> None:
    """Say what a board has and lacks for running models.

    And whether its runtimes know the operators of each MODEL. --fix makes a virtual environment in
    ~/edgecnn/venv and installs a runtime there; nothing else on the board is changed. Exit code 1
    when something is missing that models need.

    \b
    Examples:
      edgecnn doctor --target pi@raspberrypi.local
      edgecnn doctor --target pi@raspberrypi.local --fix
    """
    from edgecnn import doctor as doctors

    if fix:
        done = doctors.fix(target)
        if done["replaced"]:
            click.echo(f"made anew: ~/edgecnn/venv was one of Python {done['replaced']}", err=True)
        click.echo(f"installed in {done['python']}: {', '.join(done['packages'])}", err=True)
    found = doctors.examine(target, models)
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        from edgecnn.report import terminal

        terminal.print_findings([asdict(finding) for finding in found], terminal.make_console())
    sys.exit(1 if any(finding.status == "lacks" for finding in found) else 0)


@click.command()
@click.argument("folder", metavar="DIR", type=PATH)
@on_target()
@click.option("--artifact", metavar="KEY", help="Which file of the build.  [default: int8.tflite]")
@click.option("--to", "archive", type=PATH, metavar="FILE.tar.gz", help="Write an archive instead.")
@click.option("--rollback", is_flag=True, help="Go back to the version before.")
@data_folders
@json_option
@common
def deploy(
    folder: Path,
    target: Target,
    artifact: str | None,
    archive: Path | None,
    rollback: bool,
    data_folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Put the model of a build on a board, and try it there.

    Model, manifest, labels and a program `predict` go to ~/edgecnn/NAME/VERSION. A few test images are
    run there and here; when both agree, ~/edgecnn/NAME/current points to the new version.

    \b
    Examples:
      edgecnn deploy artifacts/mnist_lenet5_int8 --target pi@raspberrypi.local
      edgecnn deploy artifacts/mnist_lenet5_int8 --target pi@raspberrypi.local --rollback
      edgecnn deploy artifacts/mnist_lenet5_int8 --to model.tar.gz
    """
    from edgecnn import deployment

    if rollback:
        refuse_options("has no meaning beside --rollback", "archive", "artifact", "data_folders")
    if archive:
        refuse_options("has no meaning beside --to", "target")
        facts = deployment.write_archive(deployment.bundle(folder, artifact), archive)
        text = f"wrote {facts['file']}, version {facts['version']}"
    elif rollback:
        facts = deployment.rollback(folder, target)
        text = f"current is {facts['current']} again, before it was {facts['previous']}"
    else:
        with terminal_progress() as progress:
            facts = deployment.deploy(
                folder, target, artifact_key=artifact, data_folders=data_folders, progress=progress
            )
        text = (
            f"{facts['folder']} is current: top-1 there and here equal on {facts['top1_equal']:.0%} of "
            f"{facts['n_smoke_images']} test images ({facts['runtime']})"
        )
    print_json(facts) if as_json else click.echo(text)


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=PATH)
@click.option(
    "--cpu",
    "cpus",
    multiple=True,
    type=click.Choice(["cortex-a53", "cortex-a72", "cortex-a76"]),
    help="The core: of a Pi 3 or Zero 2 W, 4, 5 (may be repeated).  [default: all three]",
)
@click.option("--runtime", help="[default: litert for .tflite, onnxruntime for .onnx]")
@click.option("--root", type=PATH, help="The arm64 system.  [default: EDGECNN_ARM64_ROOT]")
@json_option
@common
def count(
    models: tuple[Path, ...], cpus: tuple[str, ...], runtime: str | None, root: Path | None, as_json: bool
) -> None:
    """Count the Arm instructions of one inference.

    By emulation, on Linux: the same file gives the same count, so a gate can hold it to a fraction of
    a percent without a board. Instructions are not cycles: this is no latency.

    \b
    Example:
      edgecnn count old.tflite new.tflite --cpu cortex-a72
    """
    from edgecnn import counting

    counts = [
        counting.count(model, cpu, runtime=runtime, root=root)
        for model in models
        for cpu in cpus or tuple(counting.CPUS)
    ]
    if as_json:
        print_json([asdict(one) for one in counts])
    else:
        from edgecnn.report import tables, terminal

        terminal.print_table(tables.counts([asdict(one) for one in counts]), terminal.make_console())
