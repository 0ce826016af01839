#!/bin/sh -e
# Installs a list of pinned packages into /opt/venv, which has no installer itself, with its SBOM.
# It runs in a build stage. Wheels only: nothing is compiled, and no setup script runs.
python3 -m venv --without-pip /opt/venv
pip="/opt/tools/bin/pip --quiet --python /opt/venv/bin/python"
$pip install --no-compile --no-deps --only-binary :all: --requirement "$1"
$pip check
/opt/tools/bin/cyclonedx-py environment --output-reproducible \
  --output-file /opt/venv/sbom.cdx.json /opt/venv/bin/python
# The root file system will be read-only, so Python could never store bytecode itself.
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
