# Sourced by scripts/demo, test, lint and docs: one virtual environment, .venv, with every framework that has
# packages for its Python. Running it again installs nothing unless pyproject.toml or the pinned versions changed.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Whether the program $1 is a Python whose version v fits the condition $2, and can make environments, which
# some systems have as packages of their own.
_fits() {
    "$1" -c "import sys, venv, ensurepip; v = sys.version_info[:2]; sys.exit(not ($2))" >/dev/null 2>&1
}

# Prints the Python to make .venv with: $PYTHON, else one that MindSpore, too, has packages for (up to 3.12),
# python3 first, else a newer one.
_python() {
    if [ -n "${PYTHON:-}" ]; then
        _fits "$PYTHON" 'v >= (3, 11)' && echo "$PYTHON" && return
        echo "PYTHON = $PYTHON: must be Python 3.11 or newer, with venv and pip; set PYTHON=/path/to/python3.12" >&2
        return 2
    fi
    local name
    for name in python3 python3.12 python3.11; do
        _fits "$name" '(3, 11) <= v <= (3, 12)' && echo "$name" && return
    done
    for name in python3 python3.14 python3.13; do
        _fits "$name" 'v > (3, 12)' && echo "$name" && return
    done
    echo "python3: no Python 3.11 or newer, with venv and pip, was found; set PYTHON=/path/to/python3.12" >&2
    return 2
}

if ! [ -x .venv/bin/python ]; then
    python=$(_python) || exit 2
    "$python" -m venv .venv
fi
frameworks="torch, jax/flax and mindspore"
if .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then
    frameworks="torch and jax/flax"
    echo "MindSpore is left out: it has packages up to Python 3.12, and .venv has" \
        "$(.venv/bin/python -c 'import platform; print(platform.python_version())');" \
        "for it, install python3.12 and remove .venv" >&2
fi

wanted=$(cat pyproject.toml scripts/constraints.txt scripts/environment.sh | cksum)
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "Setting up .venv with $frameworks and the test tools (several GB) ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint scripts/constraints.txt --editable '.[all,dev]'
    echo "$wanted" > .venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
# Several frameworks share the machine; MindSpore's start-up notices are of no use here.
export GLOG_v=${GLOG_v:-3}
