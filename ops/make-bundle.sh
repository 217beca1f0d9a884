#!/bin/sh
# Everything that a host without a network needs, in one folder: wheels of the serving install (no torch, no xgboost),
# units and the stream server's settings. `quantum host init --bundle` brings it there.
#
#   sh ops/make-bundle.sh FOLDER [PYTHON]      PYTHON must be of the host's minor version (Debian 12: 3.11)
set -eu
out=${1:?usage: sh ops/make-bundle.sh FOLDER [PYTHON]}
python=${2:-.venv/bin/python}
cd "$(dirname "$0")/.."
draft=$out.draft
rm -rf "$draft"
mkdir -p "$draft/wheels" "$draft/systemd"
# One commit, one wheel: its members carry the commit's time.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 946684800)
export SOURCE_DATE_EPOCH
# Before Python 3.11.3 (Debian 12 has 3.11.2) redis-py needs async-timeout; a later Python here would leave it out.
"$python" -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --only-binary :all: \
  --constraint constraints.txt --wheel-dir "$draft/wheels" '.[analysis,release,alerts]' async-timeout
cp ops/systemd/* "$draft/systemd/"
rm -rf "$out"
mv "$draft" "$out"
