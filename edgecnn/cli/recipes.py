"""Commands about recipes: init, build, schema."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from edgecnn.cli.options import PATH, common, data_folders, json_option
from edgecnn.cli.printing import finish_report, print_json, terminal_progress


@click.command()
@click.argument("path", type=PATH, default=Path("recipe.yaml"))
@click.option(
    "--folder", type=PATH, metavar="DIR", help="Fit the recipe to your pictures: one sub-directory a class."
)
@common
def init(path: Path, folder: Path | None) -> None:
    """Write a recipe with comments, to start from.

    PATH is recipe.yaml unless you name another. What is there is never overwritten.

    \b
    Examples:
      edgecnn init my_model.yaml && edgecnn build my_model.yaml
      edgecnn init --folder pics/ && edgecnn build recipe.yaml
    """
    from edgecnn import recipe_template

    if folder is None:
        recipe_template.write(path)
    else:
        recipe_template.write_for_folder(path, folder)
    click.echo(f"wrote {path}; next: edgecnn build {path}")


@click.command()
@click.argument("recipe", type=PATH)
@click.option("-o", "--output", type=PATH, help="The folder to build into.  [default: artifacts/<recipe name>]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value for a key of the recipe."
)
@data_folders
@click.option("--force", is_flag=True, help="Do every stage again.")
@click.option("--allow-code", is_flag=True, help="Run the Python file that the recipe names as its model.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, help="Processes that do the trials of a search."
)
@click.option(
    "--ray", "ray_address", metavar="ADDRESS", help="Do the trials on this Ray cluster; auto: a running one."
)
@click.option("--dry-run", is_flag=True, help="Say what would run and why; write nothing.")
@json_option
@common
def build(
    recipe: Path,
    output: Path | None,
    overrides: tuple[str, ...],
    data_folders: tuple[Path, ...],
    force: bool,
    allow_code: bool,
    workers: int,
    ray_address: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build a recipe: train, compress, export, measure.

    Stages whose inputs did not change are not done again. Exit code 1 when the budget is missed;
    everything is written all the same.

    \b
    Examples:
      edgecnn build recipes/mnist_lenet5_int8.yaml
      edgecnn build recipe.yaml --dry-run
      edgecnn build recipe.yaml --set train.epochs=3 --set seed=1 -o /tmp/quick
    """
    from edgecnn import pipeline
    from edgecnn.search.workers import chosen_workers

    asked: dict[str, Any] = {"overrides": overrides, "data_folders": data_folders, "force": force}
    if dry_run:
        planned = pipeline.plan(recipe, output, **asked)
        rows = [{"stage": p.stage.name, "will_run": p.will_run, "why": p.why} for p in planned]
        print_json(rows) if as_json else _print_plan(rows)
        return
    with terminal_progress() as progress, closing(chosen_workers(workers, ray_address)) as chosen:
        report = pipeline.build(
            recipe, output, **asked, allow_code=allow_code, workers=chosen, progress=progress
        )
    finish_report(report, as_json)


def _print_plan(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(f"{'run ' if row['will_run'] else 'keep'}  {row['stage']:<20} {row['why']}")


@click.command()
@click.option("-o", "--output", type=PATH, help="Write to a file.  [default: print]")
@common
def schema(output: Path | None) -> None:
    """Print the JSON Schema of a recipe, for editors.

    \b
    Example:
      edgecnn schema -o recipe.schema.json
    """
    from edgecnn import files
    from edgecnn.recipe import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if output:
        files.write_text(output, text)
    else:
        click.echo(text, nl=False)
