"""The guide: it builds without a warning, and each of its code blocks runs, is checked, or says why not."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cli import main
from connectome_tl.config import parse_settings
from connectome_tl.settings.base import Settings
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
from connectome_tl.settings.study import StudySettings

DOCS = Path(__file__).parents[2] / "docs"
PRINTED = {"limits.md": ("0.39", "0.52", "0.17", "0.44", "0.02")}  # numbers that a page repeats
RUN = ("quickstart.md", "howto/extend.md", "limits.md")  # their blocks are executed in order
PAGES = sorted(p for p in DOCS.rglob("*.md") if "decisions" not in p.parts and "_build" not in p.parts)
_FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<language>bash|python|yaml)\n(?P<text>.*?)^```", re.M | re.S
)
_KINDS: dict[str, type[Settings]] = {
    "cohort": CohortSettings,
    "study": StudySettings,
    "connectomes": ConnectomesSettings,
    "morphometry": MorphometrySettings,
}


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    mark: str

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("not run: ")


def blocks(page: Path) -> Iterator[Block]:
    for found in _FENCE.finditer(page.read_text("utf-8")):
        yield Block(found["language"], found["text"], found["mark"] or "")


def lab(folder: Path) -> None:
    """The files that the guide starts from: matrices without names, a sheet in another order."""
    rng = np.random.default_rng(0)
    (folder / "matrices").mkdir(parents=True)
    ids = [f"INF{i:02d}" for i in range(26)]
    risk = rng.normal(size=len(ids))
    for one, size in zip(ids, risk, strict=True):
        counts = rng.poisson(np.exp(rng.normal(2 - 0.2 * size, 1, (90, 90)))) * (rng.random((90, 90)) < 0.4)
        upper = np.triu(counts, 1)
        np.savetxt(folder / "matrices" / f"{one}_streamlines.csv", upper + upper.T, "%d", ",")
    table = pd.DataFrame(
        {
            "Infant": ids,
            "GA (weeks)": rng.uniform(24, 32, len(ids)).round(1),
            "PMA at scan": rng.uniform(38, 44, len(ids)).round(1),
            "Sex": rng.choice(["female", "male"], len(ids)),
            "Bayley3 cognitive": (88 - 10 * risk + rng.normal(0, 6, len(ids))).round().clip(55, 140),
        }
    )
    table.sample(frac=1, random_state=0).to_csv(folder / "participants.csv", index=False)


def run_bash(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "connectome-tl", f"the guide's blocks that run hold our command only: {line}"
        with pytest.raises(SystemExit) as left:
            main(words[1:])
        assert left.value.code == 0, line


def check_settings(block: Block, page: Path) -> None:
    kind = _KINDS[block.mark.removeprefix("settings: ")]
    text = block.text
    if kind is StudySettings and "target:" not in text:
        text += "target: {cohort: cohort.yaml}\n"  # the block shows other settings
    parse_settings(text, kind, file=page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_code_block_is_run_checked_or_marked(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            assert not block.runs or block.mark.startswith("settings: "), f"{page.name}: mark this block\n{block.text}"
            if block.runs:
                check_settings(block, page)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_as_printed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab(tmp_path / "lab")
    monkeypatch.chdir(tmp_path)
    script = ""
    for block in blocks(DOCS / page):
        if block.runs and block.language == "bash":
            run_bash(block.text)
        elif block.runs and block.language == "python":
            script += block.text
            # In a process of its own: an extension that is registered here would stay for the tests that follow.
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    printed = capsys.readouterr().out
    assert [number for number in PRINTED.get(page, ()) if number not in printed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_pages_that_are_not_run_as_a_whole_hold_commands_that_exist(page: Path) -> None:
    import typer

    from connectome_tl.cli.app import app

    known = typer.main.get_command(app)
    for block in blocks(page):
        if block.language != "bash":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["connectome-tl"] and len(words) > 1 and not words[1].startswith("-"):
                assert words[1] in known.commands, line  # type: ignore[attr-defined]
        if page.relative_to(DOCS).as_posix() not in RUN:
            assert not block.runs, f"{page.name}: run this block in the test above, or say why not\n{block.text}"


@pytest.mark.slow
def test_the_guide_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "quickstart.html").is_file()
