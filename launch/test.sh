#!/usr/bin/env bash
# The tests on this machine: installs into .venv with the test extra, then runs pytest.
# Two processes, since tests mostly compile. Arguments are passed on: bash launch/test.sh tests/solvers -k order
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment test
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
