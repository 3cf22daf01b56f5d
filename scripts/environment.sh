# Sourced by scripts/demo and scripts/test: one virtual environment, .venv, with every framework.
# Running it again installs nothing unless pyproject.toml or the pinned versions changed.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "PYTHON = $python: must be Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
    exit 2
fi

wanted=$(cat pyproject.toml scripts/constraints.txt scripts/environment.sh | cksum)
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "Setting up .venv with torch, jax/flax, mindspore and the test tools (several GB) ..."
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint scripts/constraints.txt --editable '.[all,dev]'
    echo "$wanted" > .venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
# Three frameworks share the machine; MindSpore's start-up notices are of no use here.
export GLOG_v=${GLOG_v:-3}
