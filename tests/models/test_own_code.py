"""A user's Python file: nothing of it runs before it may; what is wrong with it is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgecnn.errors import ModelError
from edgecnn.models import own_code

NET = """\
import torch
from torch import nn
from layers import Halved

class Net(nn.Module):
    def __init__(self, n_classes=10, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.halved = Halved()
        self.head = nn.Linear(width * 13 * 13, n_classes)

    def forward(self, x):
        return self.head(self.halved(torch.relu(self.conv(x))).flatten(1))
"""
LAYERS = """\
from torch import nn

class Halved(nn.Module):
    def forward(self, x):
        return nn.functional.max_pool2d(x, 2)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "layers.py").write_text(LAYERS)
    return tmp_path / "net.py"


def written(path: Path, body: str) -> own_code.OwnCode:
    path.write_text(body)
    return own_code.find(f"{path}:Net")


def mean_of_four(model: nn.Module) -> float:
    return float(model.halved(torch.tensor([[[[0.0, 4.0], [0.0, 0.0]]]])))


def told(code: own_code.OwnCode, **args: object) -> str:
    with pytest.raises(ModelError) as fault:
        own_code.make(code, args, seed=0)
    assert fault.value.exit_code == 2
    return str(fault.value)


def test_the_network_is_made_with_its_arguments_and_the_seed(net: Path) -> None:
    code = own_code.find(f"{net}:Net")
    one, same, other = (own_code.make(code, {"width": 6}, seed) for seed in (1, 1, 2))
    assert one.conv.weight.shape == (6, 1, 3, 3)
    assert torch.equal(one.conv.weight, same.conv.weight)
    assert not torch.equal(one.conv.weight, other.conv.weight)
    own_code.check_fits(code, one, torch.rand(3, 1, 28, 28), 10, "mnist")


def test_finding_it_runs_nothing(tmp_path: Path) -> None:
    left = tmp_path / "it_ran"
    code = written(tmp_path / "net.py", f"open({str(left)!r}, 'w')\n" + "Net = None\n")
    assert not left.exists()
    told(code)
    assert left.exists(), "the test can fail"


def test_the_hash_is_of_the_file_and_of_what_it_imports_beside_it(net: Path) -> None:
    before = own_code.find(f"{net}:Net")
    assert set(before.sources) == {"net", "layers"}
    (net.parent / "unrelated.py").write_text("x = 1\n")
    assert own_code.find(f"{net}:Net").sha256 == before.sha256
    (net.parent / "layers.py").write_text(LAYERS.replace("max_pool2d(x, 2)", "avg_pool2d(x, 2)"))
    after = own_code.find(f"{net}:Net")
    assert after.sha256 != before.sha256
    assert "the file changed while the build ran" in told(before)
    model = own_code.make(after, {}, seed=0)
    assert mean_of_four(model) == 1, "the new file, not a cached one"


def test_modules_of_two_folders_do_not_mix(net: Path, tmp_path: Path) -> None:
    import sys

    own_code.make(own_code.find(f"{net}:Net"), {}, seed=0)
    assert "layers" not in sys.modules and str(net.parent) not in sys.path
    other = tmp_path / "other"
    other.mkdir()
    (other / "net.py").write_text(NET)
    (other / "layers.py").write_text(LAYERS.replace("max_pool2d", "avg_pool2d"))
    model = own_code.make(own_code.find(f"{other / 'net.py'}:Net"), {}, seed=0)
    assert mean_of_four(model) == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("import no_such_package\n", "net.py:1: net.py cannot be run: ModuleNotFoundError: No module named"),
        ("x = 1\ny = x / 0\n", "net.py:2: net.py cannot be run: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "net.py:2: net.py cannot be run: SystemExit: 3"),
        (NET.replace("class Net", "class Nett").replace("from layers import Halved", "Halved = nn.Identity"),
         "net.py: it has no Net; its networks are: Nett"),
        ("Net = 3\n", "it has no Net; its networks are: none"),
        ("def Net(): return 3\n", "Net gives a int, not a torch.nn.Module"),
        ("class Net:\n    def __init__(self):\n        raise ValueError('no luck')\n",
         "net.py:3: net.py cannot be run: ValueError: no luck"),
    ],
)  # fmt: skip
def test_what_does_not_run_is_told_with_its_line(tmp_path: Path, body: str, expected: str) -> None:
    assert expected in told(written(tmp_path / "net.py", body))


def test_arguments_that_it_does_not_take(net: Path) -> None:
    message = told(own_code.find(f"{net}:Net"), classes=10)
    assert "Net cannot be made with the arguments {'classes': 10}" in message
    assert "it takes (n_classes=10, width=4); mend model.args" in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.py", None, "missing.py: there is no such file"),
        ("net.py", "class Net(:\n", "net.py:1: not Python: invalid syntax"),
        ("net.py", "x = '\xff'\n".encode("latin-1"), "not Python"),
        ("net.py", b"x = 1\0\n", "not Python"),
    ],
)
def test_what_is_no_python_file(tmp_path: Path, name: str, content: str | bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError) as fault:
        own_code.find(f"{tmp_path / name}:Net")
    assert expected in str(fault.value)


def returns(tmp_path: Path, result: str) -> tuple[own_code.OwnCode, nn.Module]:
    body = f"import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return {result}\n"
    code = written(tmp_path / "net.py", body)
    return code, own_code.make(code, {}, seed=0)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("torch.zeros(len(x), 7)", "Net has 7 outputs; mnist has 10 classes"),
        ("torch.zeros(len(x), 10, 1, 1)", "for 3 pictures Net gives the shape [3, 10, 1, 1], not [3, 10]"),
        ("torch.zeros(1, 10)", "for 3 pictures Net gives the shape [1, 10], not [3, 10]"),
        ("(x, x)", "Net gives a tuple, not one tensor of logits [3, 10]"),
        ("torch.full((len(x), 10), float('nan'))", "Net gives NaN or infinite logits on the pictures of mnist"),
        ("torch.nn.functional.conv2d(x, torch.zeros(4, 3, 3, 3))",
         "net.py:4: Net does not run on the pictures of mnist (1 x 28 x 28: channels, height, width): Runtime"),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_the_data(tmp_path: Path, result: str, expected: str) -> None:
    code, model = returns(tmp_path, result)
    with pytest.raises(ModelError) as fault:
        own_code.check_fits(code, model, torch.rand(3, 1, 28, 28), 10, "mnist")
    assert expected in str(fault.value)


def test_a_fault_that_is_not_the_users_is_not_blamed_on_them(tmp_path: Path) -> None:
    code = written(tmp_path / "net.py", "x = 1\n")
    with pytest.raises(KeyError), own_code.blamed(code, "net.py failed"):
        raise KeyError("ours")
