"""Structure-aware mutants of every matrix format: the right matrix or a clear refusal, never a silently wrong one.

`benchmarks/mutations_matrices.py` makes any number, with other seeds.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from matrix_mutants import makers
from mutation_outcomes import FAILURES, outcome

SEED = 12
MAKERS = dict(makers())
MUST_BE_READ = (  # changes that lose no information: a refusal would be wrong as well
    *("as it is", "permuted", "regions left out", "names exchanged", "background in front", "in any order", "from 0"),
    *("R's header", "said", "byte order mark", "UTF-16", "Windows line ends", "blank lines", "six digits"),
)


@pytest.mark.parametrize("part", range(4))
def test_mutants_are_right_or_refused(tmp_path: Path, part: int) -> None:
    found: Counter[str] = Counter()
    wrong = []
    for number, (name, make) in enumerate(MAKERS.items()):
        if number % 4 != part:
            continue
        what, why = outcome(make, tmp_path / "m", [SEED, number])
        found[what] += 1
        readable = name.split(": ")[1] in MUST_BE_READ or name.endswith(", said")
        if what in FAILURES or (readable and what == "refused although it could be read"):
            wrong.append(f"{name}: {what} ({why})")
    assert wrong == []
    assert found["right"] >= 20  # a test in which all are refused would prove nothing
    assert found["refused"] >= 15
