# shellcheck shell=bash
# Sourced by the scripts beside it: makes .venv and installs the project into it. Knows no training and no tests.
#
#   ensure_environment demo         what the quickstart needs
#   ensure_environment test         what the tests need (includes demo)
#
# requirements.lock is used as constraints in a .venv that was made here. In one that you made yourself, and where the lock
# does not fit (another Python, another platform), the bounds in pyproject.toml decide alone.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
ours="$venv/.made-by-launch"

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

ensure_environment() {
    local extra="$1" wanted
    wanted="$(fingerprint_of_requirements)"
    if is_installed "$extra" "$wanted"; then return; fi
    make_venv
    say "installing hpc-yolo into .venv (PyTorch with CUDA is about 6 GB: a minute or two on a fast line)"
    install_project "$extra"
    remember_installed "$extra" "$wanted"
}

# The folder is part of it: a .venv does not survive a move.
fingerprint_of_requirements() {
    { printf '%s\n' "$root"; cat "$root/pyproject.toml" "$root/requirements.lock"; } | sha256sum | cut -d ' ' -f 1
}

is_installed() {
    local stamp="$venv/.installed-$1"
    [ -x "$venv/bin/hpc-yolo" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$2" ]
}

remember_installed() {
    printf '%s\n' "$2" > "$venv/.installed-$1"
    if [ "$1" = test ]; then printf '%s\n' "$2" > "$venv/.installed-demo"; fi
}

make_venv() {
    if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2> /dev/null; then return; fi
    local python
    if command -v uv > /dev/null; then
        mark_ours
        uv venv --quiet --allow-existing --python '>=3.10' "$venv"
        return
    fi
    python="$(find_python)" || die \
        "hpc-yolo needs Python 3.10 or later, and there is none on PATH (python3 is $(python3 --version 2>&1 || true))." \
        "Install one, load its module (such as: module load python/3.11), or install uv, which brings its own."
    "$python" -c 'import ensurepip, venv' 2> /dev/null || die \
        "$python cannot make virtual environments: its module ensurepip is missing." \
        "On Debian and Ubuntu: apt install python3-venv. Or install uv."
    mark_ours
    "$python" -m venv "$venv"
}

mark_ours() {
    mkdir -p "$venv"
    : > "$ours"
}

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

install_project() {
    local project="${root}[$1]"
    if [ -f "$ours" ]; then
        if pip_install --constraint "$root/requirements.lock" --editable "$project"; then return; fi
        say "requirements.lock does not fit this machine (or the download failed); trying with the bounds of pyproject.toml alone"
    fi
    pip_install --editable "$project" || die \
        "The installation failed; pip's reason is above." \
        "On a machine without internet, point pip at a mirror (pip config set global.index-url ...) and start this again."
}

pip_install() {
    if [ -x "$venv/bin/pip" ]; then
        local quiet=(--quiet)
        if [ -t 2 ]; then quiet=(); fi # a terminal gets to see the downloads
        "$venv/bin/python" -m pip install --disable-pip-version-check ${quiet[@]+"${quiet[@]}"} "$@" >&2
    else
        uv pip install --python "$venv/bin/python" "$@"
    fi
}
