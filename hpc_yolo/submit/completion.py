"""Owns shell completion of `hpc-yolo`: Hydra completes overrides, after `train` and the like; report/offers.py the rest."""

from __future__ import annotations

import os

#: The word by which the shell asks the command line for offers; no command of a person's.
_ASKS = "_complete"
_INSTALL = f"""\
_hpc_yolo() {{
    local words=($COMP_LINE) choices word=${{COMP_WORDS[COMP_CWORD]}} line=$COMP_LINE
    if [[ "${{words[1]}}" =~ ^(doctor|drill)$ ]] && [[ "$word" != -* ]]; then  # its flags are none of Hydra's
        line=$(sed -E 's/ (doctor|drill)/ train/; s/ --[a-z-]+(=[^ ]*)?//g' <<< "$line")
        words[1]=train
    fi
    if [ "${{words[1]}}" == train ] && [ "$COMP_CWORD" -gt 1 ]; then
        choices=$(COMP_LINE="$line" hpc-yolo train -sc query=bash 2> /dev/null)
        compopt -o nospace
    else
        choices=$(hpc-yolo {_ASKS} "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2> /dev/null)
    fi
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}
complete -o default -F _hpc_yolo hpc-yolo
"""


def is_asked(argv: list[str]) -> str | None:
    """`install=bash`, `uninstall=bash` or `query=bash` where completion is asked for."""
    if not {"-sc", "--shell-completion"} & set(argv):
        return None
    return next((word for word in argv if word.split("=")[0] in ("install", "uninstall", "query")), None)


def script(asked: str) -> str | None:
    """What the shell is to evaluate: `eval "$(hpc-yolo train -sc install=bash)"`. None leaves the answer to Hydra."""
    return {"install=bash": _INSTALL, "uninstall=bash": "complete -r hpc-yolo\nunset -f _hpc_yolo\n"}.get(asked)


def hide_subcommand() -> None:
    """Hydra strips the program's name from the line that is completed, and knows of no subcommand after it."""
    line = os.environ.get("COMP_LINE", "")
    program, _, rest = line.partition(" ")
    if rest.startswith("train"):
        os.environ["COMP_LINE"] = f"{program} {rest.removeprefix('train').lstrip()}"
