#!/usr/bin/env bash
# The main job on this machine: installs into .venv, then runs the quickstart into runs/quickstart.
# Arguments are passed on: bash launch/local.sh --config.seeds=0,1
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment ""
exec .venv/bin/jaxcil run --config=configs/quickstart.py --workdir=runs/quickstart "$@"
