# shellcheck shell=bash
# Sourced by the other scripts: makes .venv with what the project needs, once.
#
#   PYTHON   the interpreter to use; otherwise the newest of python3.13 ... python3.11, python3

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() {
  echo "$(basename "$0"): $1" >&2
  exit 1
}

find_python() {
  local name
  for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
}

# make_environment EXTRA: "" or "test". A stamp of pyproject.toml keeps it from installing twice.
make_environment() {
  local extra=$1 python stamp free
  stamp=".venv/.jaxcil-${extra:-core}"
  if [[ -f $stamp && $(cat "$stamp") == "$(sha256sum <pyproject.toml)" ]]; then
    return
  fi
  # a kill while the environment was made leaves one without pip
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    [[ -n $python ]] || fail "needs Python 3.11 or newer with venv; found $(python3 --version 2>&1 || echo none). \
Install one, or name it: PYTHON=/path/to/python bash $0"
    free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    ((free >= 3000)) || fail "needs 3000 MB of free disk for the packages, $free MB are free in $PWD"
    echo "making .venv with $("$python" --version)" >&2
    "$python" -m venv --clear .venv || fail "could not make .venv; remove it and try again"
  fi
  echo "installing jaxcil${extra:+[$extra]} into .venv" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}" ||
    fail "pip could not install; the message above says why. Run again, this command resumes"
  sha256sum <pyproject.toml >"$stamp"
}
