"""A network that the user brings as Python code: found and hashed without running it; run when allowed."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from modulefinder import ModuleFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import EdgeCNNError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class OwnCode:
    """A class (or function) `name` in `file` that makes the network. `sha256` is of `sources`: the file and
    the modules beside it that it imports, by module name.
    """

    file: Path
    name: str
    sources: dict[str, Path]
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} of {self.file}"


def find(path: str) -> OwnCode:
    """The code that "path/to/net.py:Net" names. It is read, not run.

    Raises ModelError where the file is missing or is not Python.
    """
    text, _, name = path.rpartition(":")
    file = Path(text)
    if not file.is_file():
        raise ModelError(
            "there is no such file", where=text, fix="paths begin where edgecnn runs; mend model.python"
        )
    sources = {file.stem: file, **_imported_beside(file)}
    digest = hashlib.sha256()
    for module, source in sorted(sources.items()):
        digest.update(module.encode() + b"\0" + source.read_bytes() + b"\0")
    return OwnCode(file, name, sources, digest.hexdigest())


def _imported_beside(file: Path) -> dict[str, Path]:
    """The modules in the folder of `file` that it imports, directly or through one another."""
    finder = ModuleFinder(path=[str(file.parent)])
    try:
        finder.run_script(str(file))  # compiles and reads; nothing is executed
    except SyntaxError as fault:
        raise ModelError(
            f"not Python: {fault.msg}", where=f"{fault.filename or file}:{fault.lineno}", fix="mend the file"
        ) from fault
    except (UnicodeDecodeError, ValueError) as fault:
        raise ModelError(f"not Python: {fault}", where=str(file), fix="mend the file") from fault
    return {
        name: Path(source)
        for name, module in finder.modules.items()
        if name != "__main__" and (source := getattr(module, "__file__", None))
    }


def make(code: OwnCode, args: dict[str, Any], seed: int) -> nn.Module:
    """Runs the code and gives the network that `name(**args)` returns, its random weights drawn from `seed`.

    Only to be called where the user has allowed it. Raises ModelError for all that can be wrong with it.
    """
    import torch
    from torch import nn

    if find(f"{code.file}:{code.name}").sha256 != code.sha256:
        raise ModelError("the file changed while the build ran", where=str(code.file), fix="build again")
    with _importable(code), blamed(code, f"{code.file.name} cannot be run", always=True):
        made_by = _loaded(code)
        _check_arguments(code, made_by, args)
        torch.manual_seed(seed)
        model = made_by(**args)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{code.name} gives a {type(model).__name__}, not a torch.nn.Module",
            where=str(code.file),
            fix="name a class of a network, or a function that returns one",
        )
    return model


@contextmanager
def _importable(code: OwnCode) -> Iterator[None]:
    """The modules beside the file can be imported by their names, and are those of this folder."""
    hidden = {name: sys.modules.pop(name) for name in code.sources if name in sys.modules}
    sys.path.insert(0, str(code.file.parent))
    try:
        yield
    finally:
        sys.path.remove(str(code.file.parent))
        for name in code.sources:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def _loaded(code: OwnCode) -> Any:
    """The class or function, after running the file as a module."""
    spec = importlib.util.spec_from_file_location(code.file.stem, code.file)
    assert spec is not None and spec.loader is not None  # a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[code.file.stem] = module
    spec.loader.exec_module(module)
    if not callable(found := getattr(module, code.name, None)):
        from torch import nn

        classes = [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == code.file.stem
        ]
        raise ModelError(
            f"it has no {code.name}; its networks are: {', '.join(classes) or 'none'}",
            where=str(code.file),
            fix="mend model.python",
        )
    return found


def _check_arguments(code: OwnCode, made_by: Any, args: dict[str, Any]) -> None:
    signature = inspect.signature(made_by)
    try:
        signature.bind(**args)
    except TypeError as fault:
        raise ModelError(
            f"{code.name} cannot be made with the arguments {args}: {fault}",
            where=str(code.file),
            fix=f"it takes {signature}; mend model.args",
        ) from fault


@contextmanager
def blamed(code: OwnCode | None, what: str, *, always: bool = False) -> Iterator[None]:
    """Faults that come out of the user's code in the block are told as ModelError, with the line.

    `always`: so are all others, for what only that code can be the cause of. Without code nothing is changed.
    """
    try:
        yield
    except EdgeCNNError:
        raise
    except (Exception, SystemExit) as fault:
        line = _line_in(code, fault) if code else None
        if code is None or not (line or always):
            raise
        reason = (str(fault).strip().splitlines() or [""])[0]
        raise ModelError(
            f"{what}: {type(fault).__name__}: {reason}", where=line or str(code.file), fix="mend the network"
        ) from fault


def _line_in(code: OwnCode, fault: BaseException) -> str | None:
    """The innermost line of the user's own files that the fault came through."""
    files = {source.resolve(): source for source in code.sources.values()}
    frames = [
        (file, frame.lineno)
        for frame in traceback.extract_tb(fault.__traceback__)
        if (file := files.get(Path(frame.filename).resolve()))
    ]
    return "{}:{}".format(*frames[-1]) if frames else None


def _check_unshared(code: OwnCode, model: nn.Module) -> None:
    """Raises ModelError for weights that stand under two names: pruned or saved, they would come apart."""
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first != name:
            raise ModelError(
                f"{code.name} has the same weights under two names: {first} and {name}",
                where=str(code.file),
                fix="give each layer weights of its own",
            )


def check_fits(
    code: OwnCode, model: nn.Module, images_nchw: torch.Tensor, n_classes: int, data_name: str
) -> None:
    """Runs `model` on a few of the data's pictures, float32 [n, c, h, w], and looks at its outputs.

    Raises ModelError unless they are finite logits [n, n_classes].
    """
    import torch

    _check_unshared(code, model)
    shape = " x ".join(str(size) for size in images_nchw.shape[1:])
    about = f"{code.name} does not run on the pictures of {data_name} ({shape}: channels, height, width)"
    model.eval()
    with blamed(code, about, always=True), torch.inference_mode():
        logits = model(images_nchw)
    where = str(code.file)
    wanted = f"[{len(images_nchw)}, {n_classes}]"
    if not isinstance(logits, torch.Tensor):
        raise ModelError(
            f"{code.name} gives a {type(logits).__name__}, not one tensor of logits {wanted}", where=where,
            fix="let forward return the logits alone",
        )  # fmt: skip
    if logits.ndim != 2 or len(logits) != len(images_nchw):
        raise ModelError(
            f"for {len(images_nchw)} pictures {code.name} gives the shape {list(logits.shape)}, not {wanted}",
            where=where,
            fix="let forward return one row of logits for each picture",
        )
    if logits.shape[1] != n_classes:
        raise ModelError(
            f"{code.name} has {logits.shape[1]} outputs; {data_name} has {n_classes} classes",
            where=where,
            fix="mend model.args or the last layer",
        )
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"{code.name} gives NaN or infinite logits on the pictures of {data_name}", where=where,
            fix="look at its first weights and at divisions and logarithms in forward",
        )  # fmt: skip
