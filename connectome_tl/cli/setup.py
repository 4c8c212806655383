"""Commands for shell completion and for JSON schemas of the settings."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from connectome_tl.cli.app import COMPLETE, app


class Shell(StrEnum):
    """Shells with completion."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


class Kind(StrEnum):
    """Kinds of settings files."""

    study = "study"
    cohort = "cohort"
    connectomes = "connectomes"
    morphometry = "morphometry"
    tune = "tune"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="Name of the shell.")]) -> None:
    """Print the shell completion script.

    bash: connectome-tl completion bash >> ~/.bashrc
    zsh: connectome-tl completion zsh >> ~/.zshrc
    fish: connectome-tl completion fish > ~/.config/fish/completions/connectome-tl.fish
    """
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="connectome-tl", complete_var=COMPLETE, shell=shell.value))


@app.command()
def schema(
    kind: Annotated[Kind, typer.Argument(help="Kind of settings.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: print.")] = None,
) -> None:
    """Print the JSON schema of a settings file, for editors that validate YAML.

    Write it to the folder of the file and name it in the first line: # yaml-language-server: $schema=study.schema.json
    """
    from connectome_tl.provenance import write_text
    from connectome_tl.workflows.init.schema import schema_of

    text = json.dumps(schema_of(kind.value), indent=2) + "\n"
    typer.echo(text if out is None else f"wrote {write_text(out, text)}", nl=out is not None)
