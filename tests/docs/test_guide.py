"""The guide: it builds without a warning, and each of its code blocks is run, checked, or marked with a reason."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import connectome_tl
from connectome_tl.cli import main
from connectome_tl.config import parse_settings
from connectome_tl.evaluation import planning, power
from connectome_tl.settings.base import Settings
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
from connectome_tl.settings.study import StudySettings

DOCS = Path(__file__).parents[2] / "docs"
PRINTED = {"limits.md": ("0.27", "0.49", "0.24", "0.62", "0.05")}  # numbers that a page repeats
READMES = ("README.md", "CONTRIBUTING.md", "configs/snakemake/README.md")
RUN = ("quickstart.md", "howto/editor.md", "howto/extend.md", "limits.md")  # their blocks are executed in order
PAGES = sorted(p for p in DOCS.rglob("*.md") if "decisions" not in p.parts and "_build" not in p.parts)
_FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<language>bash|python|yaml)\n(?P<text>.*?)^```", re.M | re.S
)
_ANY_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
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
    """The files that the guide starts with: matrices without names, a sheet in another order."""
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


def shorten(study: Path) -> None:
    """Let a study that `init` wrote train few networks for few steps: its commands are tested, not its model."""
    brief = "stages: {finetune: {training: {steps: 5}, ensemble: {networks: 2}}}\n"
    if study.is_file() and brief not in study.read_text("utf-8"):
        study.write_text(study.read_text("utf-8") + brief, encoding="utf-8")


def run_python(script: str) -> None:
    """In a separate process: an extension that is registered here would affect later tests."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
@pytest.mark.usefixtures("fits_once")
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_as_printed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab(tmp_path / "lab")
    monkeypatch.chdir(tmp_path)
    if page not in PRINTED:
        for module in (planning, power):
            monkeypatch.setattr(module, "N_STUDIES", 20)
    script, is_new = "", False
    for block in (one for one in blocks(DOCS / page) if one.runs):
        if block.language == "bash":
            if is_new:
                run_python(script)
            is_new = False
            run_bash(block.text)
            shorten(tmp_path / "study" / "study.yaml")
        elif block.language == "python":
            script, is_new = script + block.text, True
    if is_new:
        run_python(script)
    printed = capsys.readouterr().out
    assert [number for number in PRINTED.get(page, ()) if number not in printed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_blocks_of_commands_are_marked_as_such(page: Path) -> None:
    """A fence without a language holds no commands, and a bash block is run by a test or marked with a reason."""
    plain = [text for language, text in _ANY_FENCE.findall(page.read_text("utf-8")) if not language]
    assert not [text for text in plain if "connectome-tl " in text], f"{page.name}: write ```bash"
    for block in blocks(page):
        if block.language == "bash" and page.relative_to(DOCS).as_posix() not in RUN:
            assert not block.runs, f"{page.name}: run this block in the test above, or say why not\n{block.text}"


def written_commands(text: str) -> Iterator[str]:
    """Every call of the command in code blocks and in the text of a page."""
    for language, fence in _ANY_FENCE.findall(text):
        if language in ("", "bash"):
            yield from re.findall(r"connectome-tl [a-z-].*", fence.replace("\\\n", " "))
    sentences = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    yield from (" ".join(one.split()) for one in re.findall(r"`(connectome-tl [^`]+)`", sentences))


@pytest.mark.parametrize(
    "page", [*PAGES, *(DOCS.parent / name for name in READMES)], ids=lambda p: p.relative_to(DOCS.parent).as_posix()
)
def test_every_command_that_a_page_names_has_these_arguments_and_options(page: Path) -> None:
    """Parsed by the program, without being run."""
    import typer

    from connectome_tl.cli.entry import app

    for line in written_commands(page.read_text("utf-8")):
        words = list(itertools.takewhile(lambda word: word != ">", shlex.split(line, comments=True)[1:]))
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"no such command: {line}"
            command = command.commands[words.pop(0)]
        if hasattr(command, "commands"):
            assert words in ([], ["--help"], ["--version"]), line
        elif words:
            try:
                command.make_context(command.name, words)
            except Exception as error:
                raise AssertionError(f"{line}: {getattr(error, 'format_message', str)()}") from error


@pytest.mark.slow
def test_the_guide_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "quickstart.html").is_file()
    assert "Three stages and their controls" in (tmp_path / "tutorials" / "03_three_stages.html").read_text("utf-8")


def test_the_reference_lists_every_public_name() -> None:
    listed = re.findall(r"^\.\. auto\w+:: connectome_tl\.(\w+)$", (DOCS / "reference.md").read_text("utf-8"), re.M)
    assert sorted(listed) == sorted(connectome_tl.__all__)
    assert {"convert", "read_connectome", "read_cohort", "run_study", "read_run", "StudySettings"} <= set(listed)


def test_every_notebook_is_a_tutorial_of_the_guide() -> None:
    """The toctree and the table, in the order of the numbers."""
    text = (DOCS / "tutorials.md").read_text("utf-8")
    notebooks = [path.stem for path in sorted((DOCS.parent / "notebooks").glob("*.ipynb"))]
    assert re.findall(r"^tutorials/(\w+)$", text, re.M) == notebooks
    assert re.findall(r"<tutorials/(\w+)>", text) == notebooks
