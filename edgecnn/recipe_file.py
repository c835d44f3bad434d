"""From a recipe file (and `--set` options) to a `Recipe`, with every fault told by file, line and key."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml

from edgecnn import files, target_file, yaml_source
from edgecnn.data import DATASETS
from edgecnn.errors import RecipeError, UsageError
from edgecnn.models import ALL_MODELS, BROUGHT, MODELS
from edgecnn.recipe import (
    ONNX_PATTERN,
    PYTHON_PATTERN,
    STEPS,
    Budget,
    PruneStep,
    Recipe,
    Scaling,
    Spec,
    check_widths,
    data_parameters,
    model_parameters,
)
from edgecnn.recipe.steps import QuantizeStep
from edgecnn.yaml_source import MOST_BYTES, KeyPath, YamlSource

MOST_FAULTS = 50
LONGEST_SHOWN = 200
"""Characters of a wrong value that are repeated in a message."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with the text that gives it again: the file's own, or one with the `--set` values in it."""

    recipe: Recipe
    text: str


def load(path: Path | str, overrides: tuple[str, ...] = (), *, is_built: bool = False) -> LoadedRecipe:
    """The recipe in the file at `path`, with `overrides` such as "train.epochs=3" laid over it.

    `is_built`: its targets need not be known on this machine; they were where it was built.
    Raises RecipeError (exit code 2) that names file, line, key, what was expected and the nearest right name.
    """
    path = Path(path)
    text = _read(path)
    source = yaml_source.parse(text, str(path))
    for override in overrides:
        _apply(override, source)
    if overrides:
        text = yaml.safe_dump(source.data, sort_keys=False)
    recipe = _validated(source)
    if not is_built:
        _check_targets(recipe, source)
    return LoadedRecipe(recipe, text)


class _BudgetFile(Spec):
    budget: dict[str, Budget]


def parse_budget(text: str, name: str) -> dict[str, Budget]:
    """The limits in the YAML text of a file that holds `budget:` alone, by what they are for.

    Raises RecipeError as `load` does; `name` is the file's.
    """
    source = yaml_source.parse(text, name)
    if not isinstance(source.data, dict) or set(source.data) != {"budget"}:
        raise RecipeError(
            "expected the key budget, and no other",
            where=name,
            fix='for example: budget: {"models/*.tflite": {max_size: 20 kB}}',
        )
    try:
        return _BudgetFile.model_validate_json(json.dumps(source.data)).budget
    except pydantic.ValidationError as faults:
        raise RecipeError(_told_all(faults, source)) from faults


def _read(path: Path) -> str:
    try:
        return files.read_text(path, MOST_BYTES)
    except FileNotFoundError as fault:
        near = difflib.get_close_matches(path.name, [p.name for p in _recipes_beside(path)], n=1, cutoff=0.5)
        fix = f"did you mean {path.parent / near[0]}?" if near else "edgecnn init writes a recipe to start from"
        raise RecipeError("there is no such recipe", where=str(path), fix=fix) from fault
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else fault
        raise RecipeError(f"the recipe cannot be read: {reason}", where=str(path)) from fault


def _recipes_beside(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []


def _apply(override: str, source: YamlSource) -> None:
    """Lays "key.in.the.file=value" over the data of `source`; a number steps into a list."""
    key, equals, value = override.partition("=")
    where = f"--set {override}"
    if not equals or not key.strip():
        raise RecipeError("expected KEY=VALUE", where=where, fix="for example: --set train.epochs=3")
    if not isinstance(source.data, dict):
        return  # not a recipe: told in a moment
    node: Any = source.data
    path: KeyPath = ()
    parts = key.strip().split(".")
    while True:
        part, parts = _next_part(node, parts)
        index = _index(node, part, where)
        path = (*path, index)
        if not parts:
            break
        if isinstance(node, dict) and index not in node:
            source.origins[path] = where
        node[index] = _opened(node[index] if isinstance(node, list) else node.get(index))
        node = node[index]
    node[index] = yaml_source.parse(value, where).data
    source.origins[path] = where


def _next_part(node: Any, parts: list[str]) -> tuple[str, list[str]]:
    """The next key of a dotted path, and the rest of it; a key of `node` may hold dots itself: int8.tflite."""
    for length in range(len(parts), 1, -1):
        joined = ".".join(parts[:length])
        if isinstance(node, dict) and joined in node:
            return joined, parts[length:]
    return parts[0], parts[1:]


def _index(node: Any, part: str, where: str) -> Any:
    """`part` as a key of a dict, or as a position in a list."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise RecipeError(f"there is nothing to set below {node!r}", where=where)
    if not (part.isascii() and part.isdecimal()) or int(part) >= len(node):
        raise RecipeError(f"the list has {len(node)} items, numbered from 0; not {part!r}", where=where)
    return int(part)


def _opened(value: Any) -> Any:
    """`value`, so that a key can be set inside it: a bare name becomes {name: {}}, nothing becomes {}."""
    if value is None:
        return {}
    return {value: {}} if isinstance(value, str) else value


def _validated(source: YamlSource) -> Recipe:
    data = source.data
    if not isinstance(data, dict):
        raise RecipeError(
            "expected keys such as name, data, model", where=source.name, fix="edgecnn init writes a recipe"
        )
    if isinstance(data.get("version"), int) and data["version"] > 1:
        raise RecipeError(
            f"recipe version {data['version']} is newer than this edgecnn, which reads version 1",
            where=source.where(("version",)),
            fix="pip install -U edgecnn",
        )
    plain = _normalized(data, source)
    try:
        recipe = Recipe.model_validate_json(json.dumps(plain))
    except pydantic.ValidationError as faults:
        raise RecipeError(_told_all(faults, source)) from faults
    _check_names(recipe, source)
    return recipe


def _normalized(data: dict[str, Any], source: YamlSource) -> dict[str, Any]:
    """`data` with bare names written out, in the form of `Recipe`."""
    plain = {key: value for key, value in data.items() if value is not None}
    brought = _brought_model(plain.get("model"), source)
    for key, registry in (("data", DATASETS), ("model", ALL_MODELS)):
        if key == "model" and brought:
            plain[key] = brought
        elif key in plain:
            plain[key] = _named(plain[key], (key,), registry, source)
    if isinstance(plain.get("compress"), list):
        plain["compress"] = [
            _step(step, ("compress", index), source) for index, step in enumerate(plain["compress"])
        ]
    return plain


def _named(value: Any, path: KeyPath, registry: dict[str, Any], source: YamlSource) -> dict[str, Any]:
    name, parameters = _single(_with_path(value), path, registry, source)
    if "name" in parameters:
        raise RecipeError("unknown key", where=source.where((*path, name, "name")))
    return {"name": name, **parameters}


_BROUGHT_FORMS = {
    "python": (PYTHON_PATTERN, "a file and a class in it: {python: path/to/net.py:Net, args: {n_classes: 10}}"),
    "onnx": (ONNX_PATTERN, "a file: {onnx: path/to/net.onnx}"),
}


def _brought_model(value: Any, source: YamlSource) -> dict[str, Any] | None:
    """A network of the user's own, {python: FILE:CLASS, ...} or {onnx: FILE}, in the form of `ModelSpec`."""
    for name in BROUGHT:
        if value == name or (isinstance(value, dict) and name in value):
            settings = value if isinstance(value, dict) else {}
            pattern, form = _BROUGHT_FORMS[name]
            path = settings.get(name)
            if not isinstance(path, str) or not re.match(pattern, path):
                where = source.where(("model", name) if settings else ("model",))
                raise RecipeError(f"expected {form}", where=where)
            for key in settings.keys() - set(model_parameters(name)):
                near = _nearest(key, model_parameters(name))
                known = ", ".join(model_parameters(name))
                raise RecipeError(f"unknown key{near}; known keys: {known}", where=source.where(("model", key)))
            rest = {key: one for key, one in settings.items() if key != name and one is not None}
            return {"name": name, "path": path, **rest}
    return None


def _with_path(value: Any) -> Any:
    """{folder: pics} is short for {folder: {path: pics}}."""
    if isinstance(value, dict) and len(value) == 1:
        ((name, path),) = value.items()
        if isinstance(path, str) and name in DATASETS and DATASETS[name].brought:
            return {name: {"path": path}}
    return value


def _step(value: Any, path: KeyPath, source: YamlSource) -> dict[str, Any]:
    name, parameters = _single(value, path, STEPS, source)
    if parameters.get("teacher") not in (None, "dense"):
        teacher = parameters["teacher"]
        names = MODELS if isinstance(teacher, dict) else {"dense": None, **MODELS}
        parameters = {**parameters, "teacher": _named(teacher, (*path, name, "teacher"), names, source)}
    return {name: parameters}


def _single(
    value: Any, path: KeyPath, registry: dict[str, Any], source: YamlSource
) -> tuple[str, dict[str, Any]]:
    """The name and parameters of "name" or {name: {...}}."""
    if isinstance(value, str):
        value = {value: None}
    if not isinstance(value, dict) or len(value) != 1:
        raise RecipeError(
            f"expected one name, or one name with its settings; names are {', '.join(registry)}",
            where=source.where(path),
        )
    ((name, parameters),) = value.items()
    if name not in registry:
        kind = "teacher" if path[-1] == "teacher" else path[0]
        raise RecipeError(
            f"there is no {kind} {name!r}{_nearest(name, registry)}; expected one of: {', '.join(registry)}",
            where=source.where(path),
        )
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise RecipeError(f"expected settings of {name} as keys", where=source.where((*path, name)))
    return name, parameters


def _told_all(faults: pydantic.ValidationError, source: YamlSource) -> str:
    """A line for each of the first `MOST_FAULTS`: telling one takes time, and none of thousands is read."""
    found = faults.errors()
    lines = [_told(fault, source) for fault in _innermost(found[:MOST_FAULTS])]
    more = len(found) - MOST_FAULTS
    return "\n".join(lines + ([f"and {more:,} more faults"] if more > 0 else []))


def _innermost(faults: list[Any]) -> list[Any]:
    """`faults` without those that follow from one further in: a list of one wrong item is not empty."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if not any(
            len(place) > len(fault["loc"]) and place[: len(fault["loc"])] == fault["loc"] for place in places
        )
    ]


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _told(fault: Any, source: YamlSource) -> str:
    """One line for one of pydantic's faults: where: key: what is wrong, what was expected."""
    loc = fault["loc"]
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = _keys_at(loc[:-1], source.data)
        message = f"unknown key{_nearest(loc[-1], known)}; known keys: {', '.join(known) or 'none'}"
    elif fault["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", fault["ctx"]["expected"]) or [fault["ctx"]["expected"]]
        message = f"{fault['input']!r} is not one of {', '.join(known)}{_nearest(fault['input'], known)}"
    elif fault["type"] == "missing":
        message = "the key is missing"
    else:
        message = f"{message[0].lower()}{message[1:]}"
        if not isinstance(fault["input"], (dict, list)):
            message += f", not {_shown(fault['input'])}"
    return f"{source.where(_source_path(loc, source.data))}: {message}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."


def _source_path(loc: tuple[str | int, ...], data: Any) -> KeyPath:
    """Where in the file the place `loc` of the Recipe was written: tags skipped, names stepped through."""
    path: KeyPath = ()
    for position, part in enumerate(loc):
        if isinstance(data, dict) and part not in data and len(data) == 1 and path:
            (name,) = data
            if isinstance(data[name], dict) and part in data[name]:
                path, data = (*path, name), data[name]
        if part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data)):
            path, data = (*path, part), data[part]
        elif position == len(loc) - 1 and isinstance(part, str) and path[-1:] != (part,):
            path = (*path, part)
    return path


def _keys_at(loc: tuple[str | int, ...], data: Any) -> list[str]:
    """The keys that a recipe with that `data` may have at `loc`."""
    spec: type[Spec] | None = Recipe
    if loc == ("data",):
        return list(data_parameters(next(iter(data["data"]))))
    if loc[:2] == ("data", "normalization"):
        return list(Scaling.model_fields)
    if loc == ("model",):
        return model_parameters(next(iter(data["model"])))
    if "teacher" in loc:
        teacher = _source_path(loc[: loc.index("teacher") + 1], data)
        return model_parameters(next(iter(_value_at(data, teacher))))
    if loc[:1] == ("compress",) and len(loc) >= 3:
        spec = STEPS[str(loc[2])]
        loc = loc[3:]
    elif loc[:1] == ("budget",):
        spec, loc = Budget, ()
    for part in loc:
        annotation = spec.model_fields[str(part)].annotation if spec else None
        kinds = (annotation, *get_args(annotation))  # what may be left out is "... | None"
        spec = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Spec)), None)
    if spec is None:
        return []
    return [
        field.alias or name for name, field in spec.model_fields.items() if name != "name" or spec is Recipe
    ]


def _value_at(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data[key]
    return data


def _check_names(recipe: Recipe, source: YamlSource) -> None:
    """What only the whole recipe can judge: widths to prune to, artifacts that a budget is for."""
    _check_widths(recipe, source)
    _check_layers(recipe, source)
    if recipe.model.name == "onnx":
        _check_untrained(recipe, source)
    wanted, given = ALL_MODELS[recipe.model.name].input_size, recipe.preprocessing
    if wanted is not None and wanted != (given.height, given.width):
        raise RecipeError(
            f"{recipe.model.name} takes pictures of {wanted[0]} x {wanted[1]}; those of {recipe.data.name} are "
            f"{given.height} x {given.width}",
            where=source.where(("model",)),
            fix=f"let them be resized: data: {{{recipe.data.name}: {{size: {wanted[0]}}}}}",
        )
    _check_stem(recipe, source)
    _check_teachers(recipe, source)
    for key in recipe.budget:
        if key not in recipe.artifact_keys:
            raise RecipeError(
                f"this recipe writes no {key!r}{_nearest(key, recipe.artifact_keys)}; "
                f"it writes: {', '.join(recipe.artifact_keys)}",
                where=source.where(("budget", key)),
            )


def _check_stem(recipe: Recipe, source: YamlSource) -> None:
    least_size = ALL_MODELS[recipe.model.name].least_size
    if not least_size:
        return
    stem = recipe.model_options["stem"]
    given = min(recipe.preprocessing.height, recipe.preprocessing.width)
    if given < least_size[stem]:
        other = f"stem: small, from {least_size['small']} pixels on, or " if stem != "small" else ""
        raise RecipeError(
            f"{recipe.model.name} with the stem {stem!r} takes pictures of at least {least_size[stem]} pixels; "
            f"those of {recipe.data.name} have {given}",
            where=source.where(("model",)),
            fix=f"{other}larger pictures: data: {{{recipe.data.name}: {{size: {least_size[stem]}}}}}",
        )


def _check_teachers(recipe: Recipe, source: YamlSource) -> None:
    given = (recipe.preprocessing.height, recipe.preprocessing.width)
    for (position, step), teacher in recipe.teachers.items():
        wanted = ALL_MODELS[teacher.name].input_size
        if wanted is not None and wanted != given:
            raise RecipeError(
                f"the teacher {teacher.name} takes pictures of {wanted[0]} x {wanted[1]}; those of this recipe "
                f"are {given[0]} x {given[1]}",
                where=source.where(("compress", position, step, "teacher")),
                fix="teacher: dense, or a network that takes them",
            )


def _check_targets(recipe: Recipe, source: YamlSource) -> None:
    for index, target in enumerate(recipe.targets):
        try:
            target_file.check(target)
        except UsageError as fault:
            raise RecipeError(fault.what, where=source.where(("targets", index)), fix=fault.fix) from fault


def _check_untrained(recipe: Recipe, source: YamlSource) -> None:
    """What is given as an ONNX file is not trained: nothing but quantize may be asked for."""
    asked = [] if "train" not in source.data else [("train",)]
    for index, step in enumerate(recipe.compress):
        if not isinstance(step, QuantizeStep):
            asked.append(("compress", index))  # type: ignore[arg-type]
    if asked:
        raise RecipeError(
            "a network given as an ONNX file is not trained",
            where=source.where(asked[0]),
            fix="leave train, prune and finetune out, or give the network as code: {python: FILE.py:CLASS}",
        )


def _check_layers(recipe: Recipe, source: YamlSource) -> None:
    """Layers that a step names are there. Those of a network of the user's own are known once it runs."""
    info = MODELS.get(recipe.model.name)
    layers = (*info.widths, info.last) if info else ()
    for position, step in enumerate(recipe.compress if layers else ()):
        for name, key in (("quantize", "float_layers"), ("qat", "int8_layers")):
            for index, layer in enumerate(getattr(getattr(step, name, None), key, ())):
                if layer not in layers:
                    raise RecipeError(
                        f"{recipe.model.name} has no layer {layer!r}{_nearest(layer, layers)}; it has: "
                        f"{', '.join(layers)}",
                        where=source.where(("compress", position, name, key, index)),
                    )


def _check_widths(recipe: Recipe, source: YamlSource) -> None:
    """Every prune step has a width for each layer, and none grows: known before anything is trained."""
    name, bypass = recipe.model.name, bool(recipe.model.simple_bypass)
    widths = recipe.model.layer_widths
    for index, step in enumerate(recipe.compress):
        if not isinstance(step, PruneStep):
            continue
        if step.prune.widths is None:
            widths = step.prune.kept(name, widths)
            continue
        where = source.where(("compress", index, "prune", "widths"))
        if name in BROUGHT:
            what = "the layers of your own network are not known before it runs"
            raise RecipeError(what, where=where, fix="give a ratio")
        try:
            check_widths(name, step.prune.widths, bypass=bypass)
        except ValueError as fault:
            raise RecipeError(str(fault), where=where) from fault
        for (layer, now), kept in zip(widths.items(), step.prune.widths, strict=True):
            if kept > now:
                raise RecipeError(
                    f"pruning cannot widen {layer} from {now} to {kept} channels",
                    where=where,
                    fix=f"give at most {now}",
                )
        widths = step.prune.kept(name, widths)
