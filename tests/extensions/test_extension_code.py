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

from connectome_tl.provenance import code_hash

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


PAIRS = [
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


def test_the_hash_does_not_depend_on_the_process() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_extension_code as t; print(t.every_hash())"
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    one, other = (subprocess.check_output(command, env={**env, "PYTHONHASHSEED": seed}) for seed in "12")
    assert one == other


def every_hash() -> str:
    this = import_module("test_extension_code")
    return str(code_hash([part for pair in this.PAIRS for part in pair]))
