"""docs/howto/postgresql.md, typed on a local server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from postgres_server import _postgres_commands, postgres_server
from small_study import last_stage, small_cohorts, small_settings

from connectome_tl.cli import main
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.settings.study import SplitSettings
from connectome_tl.settings.tuning import TuneSettings

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "postgresql.md").read_text("utf-8")
PRINTED = "postgresql://tuner@db.example.org/trials"


def block(language: str, contains: str) -> str:
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.S) if contains in text)
    return found


@pytest.mark.slow
def test_a_search_in_a_new_database_is_read_by_optuna_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_settings(
        steps=1,
        source=None,
        pool=None,
        stages=last_stage(small_settings(steps=1).stages.finetune),
        splits=SplitSettings(repeats=1, outer=2, inner=2, stratum="cognitive"),
        controls=(),
        tune=TuneSettings.model_validate(
            {"trials": 1, "model": "core", "space": {"core.relax": {"choices": [True, False]}}}
        ),
    )
    write_cohort(small_cohorts().target, tmp_path / "target")
    (tmp_path / "study.yaml").write_text(dump_settings(study))
    monkeypatch.chdir(tmp_path)
    with postgres_server() as url:
        (host,) = parse_qs(urlsplit(url).query)["host"]
        commands = _postgres_commands()
        environ = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PGHOST": host, "PGUSER": "tuner"}
        # The account of the test server is called tuner: the page's role has another name here.
        script = "set -e\n" + block("bash", "createuser").replace(" tuner", " worker")
        options = {"env": environ, "cwd": "/", "capture_output": True, "text": True, "start_new_session": True}
        done = subprocess.run(["bash", "-c", script], input="secret\nsecret\n", check=False, **options)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
        ours = f"postgresql://worker@/trials?host={host}"
        (line,) = block("bash", "connectome-tl tune").splitlines()
        with pytest.raises(SystemExit) as left:
            main([ours if word == PRINTED else word for word in line.split()[1:]])
        assert left.value.code == 0
        code = block("python", "load_study").replace(
            PRINTED.replace("://", "+psycopg://"), ours.replace("://", "+psycopg://")
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (example,) = re.findall(r"`([0-9a-f]{16}) repeat 0 fold 2`", PAGE)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for fold, line in enumerate(lines):
        assert re.fullmatch(rf"[0-9a-f]{{{len(example)}}} repeat 0 fold {fold} 1 [\d.]+", line), line
