# Shared by scripts/demo and scripts/test: messages, and the search for a Python that works.
# shellcheck shell=bash

supported_pythons=(3.11 3.12 3.13)

say() { printf '== %s\n' "$*"; }

# Print what is wrong and how to mend it, one line per argument, and end: the set-up is not possible.
stop() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    shift
    if (($#)); then printf '  %s\n' "$@" >&2; fi
    exit 2
}

# Print the path of a working Python of the given version; fail when there is none. A program of that name
# proves nothing: a pyenv shim may have no version behind it, and a build may lack modules.
find_python() {
    local version=$1 candidate
    while read -r candidate; do
        if "$candidate" -c "import sys, sqlite3, ssl; sys.exit(sys.version_info[:2] != (${version/./, }))" \
            >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done < <(type -ap "python$version"; compgen -G "${HOME:-}/.pyenv/versions/$version.*/bin/python$version")
    return 1
}

# Make the virtual environment DIRECTORY with the first supported Python that can, unless it is there and works.
make_venv() {
    local directory=$1 version python
    if "$directory/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
    for version in "${supported_pythons[@]}"; do
        python=$(find_python "$version") || continue
        "$python" -c 'import ensurepip, venv' 2>/dev/null || continue
        say "making the virtual environment $directory with $python"
        "$python" -m venv --clear "$directory"
        return
    done
    stop "no Python ${supported_pythons[*]} with the module venv was found" \
        "remedy on Debian and Ubuntu: apt-get install python3 python3-venv"
}
