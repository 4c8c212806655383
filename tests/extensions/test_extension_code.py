"""The hash of an extension changes with everything that it computes with, and is the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from importlib import import_module, reload
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectome_tl import extension_code
from connectome_tl.errors import UsageError
from connectome_tl.extension_code import code_hash, code_of, register_code

MAIN = """
import strange_helper_{n}
from functools import partial
def scaled(values, factor=1.0):
    return strange_helper_{n}.scale(values) * factor
PART = partial(scaled, factor=2.0)
"""


@dataclass(frozen=True)
class Fixed:
    factor: float
    names: tuple[str, ...] = ("a", "b")

    def __call__(self, value: float) -> float:
        return self.factor * value


def closure(factor: Any) -> Any:
    return lambda value: value * factor


def endless() -> Any:
    def again(n: int) -> int:
        return n and again(n - 1)

    return again


def with_default(value: Any) -> Any:
    def scaled(values: float, factor: float = value) -> float:
        return values * factor

    return scaled


def unsaved(rate: int, factor: int, bias: int) -> Any:
    """A class of a notebook: its source is in no file."""
    code = f"""
class Net:
    rate = {rate}
    def forward(self, x):
        return (lambda y: y * {factor})(x)
    @property
    def bias(self):
        return {{"a", "b", "{bias}"}}
"""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(code, space)
    return space["Net"]


PAIRS = [
    (with_default(1.0), with_default(2.0)),
    (unsaved(1, 1, 1), unsaved(2, 1, 1)),
    (unsaved(1, 1, 1), unsaved(1, 2, 1)),
    (unsaved(1, 1, 1), unsaved(1, 1, 2)),
    (partial(max, 1), partial(max, 2)),
    (partial(sorted, reverse=True), partial(sorted, reverse=False)),
    (Fixed(1.0), Fixed(2.0)),
    (Fixed(1.0).__call__, Fixed(2.0).__call__),
    (closure(1), closure(2)),
    (closure(np.zeros(2000)), closure(np.r_[np.zeros(1000), 1, np.zeros(999)])),
    (closure({"a": 1}), closure({"a": 2})),
    ((max, None), (min, None)),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_another_value_is_another_hash(one: Any, other: Any) -> None:
    assert code_hash(one) != code_hash(other)
    assert code_hash(one) == code_hash(one)


def test_a_function_that_contains_itself_has_a_hash() -> None:
    assert code_hash(endless()) == code_hash(endless())


def test_a_helper_beside_the_module_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    n = abs(hash(str(tmp_path)))
    helper = tmp_path / f"strange_helper_{n}.py"
    helper.write_text("def scale(values):\n    return values\n")
    (tmp_path / f"strange_main_{n}.py").write_text(MAIN.format(n=n))
    main = import_module(f"strange_main_{n}")
    before = {name: code_hash(getattr(main, name)) for name in ("scaled", "PART")}
    helper.write_text("def scale(values):\n    return values * 3\n")
    reload(import_module(f"strange_helper_{n}"))
    assert all(code_hash(getattr(main, name)) != old for name, old in before.items())


@pytest.mark.parametrize("changed", ["one/__init__.py", "two/__init__.py", "one/steps.py", "two/steps.py"])
def test_every_module_of_a_package_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"strange_package_{abs(hash(str(tmp_path)))}"
    for file in ("__init__", "one/__init__", "two/__init__", "one/steps", "two/steps"):
        path = tmp_path / name / f"{file}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("def part(x):\n    return x\n")
    part = import_module(f"{name}.one.steps").part
    before = code_hash(part)
    assert code_hash(part) == before
    (tmp_path / name / changed).write_text("def part(x):\n    return x + 1\n")
    assert code_hash(part) != before


def test_the_version_of_a_package_counts_that_another_module_of_the_extension_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    n = abs(hash(str(tmp_path)))
    (tmp_path / f"strange_library_{n}.py").write_text('__version__ = "1"\ndef double(x):\n    return 2 * x\n')
    folder = tmp_path / f"strange_user_{n}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "main.py").write_text("from .helper import half\ndef part(x):\n    return half(x)\n")
    (folder / "helper.py").write_text(
        f"from strange_library_{n} import double\ndef half(x):\n    return double(x) / 4\n"
    )
    part = import_module(f"strange_user_{n}.main").part
    before = code_hash(part)
    monkeypatch.setattr(import_module(f"strange_library_{n}"), "__version__", "2")
    assert code_hash(part) != before


def test_two_packages_that_register_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension_code, "_REGISTERED", {})
    one, other = with_default(1.0), with_default(2.0)
    other.__module__ = "another_package.parts"
    register_code("encoder mine", one)
    register_code("encoder mine", with_default(3.0))  # changed, as in a notebook
    with pytest.raises(UsageError, match="two extensions register the encoder mine"):
        register_code("encoder mine", other)
    assert code_of(["encoder mine", "encoder other"]).keys() == {"encoder mine"}


def test_the_hash_does_not_depend_on_the_process() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_extension_code as t; print(t.every_hash())"
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    one, other = (subprocess.check_output(command, env={**env, "PYTHONHASHSEED": seed}) for seed in "12")
    assert one == other


def every_hash() -> str:
    this = import_module("test_extension_code")
    return str(code_hash([part for pair in this.PAIRS for part in pair]))
