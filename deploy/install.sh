#!/usr/bin/env bash
# Install the package and its pinned dependencies into a Python: on a node, or in an image.
#   bash deploy/install.sh PYTHON [EXTRAS]     such as pretrained,motion (pyproject.toml lists them)
set -euo pipefail
python=$1
cd "$(dirname "$0")/.."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $python is too old; Python 3.11 or newer is needed" >&2
    exit 2
}
# With the server's packages: the head's autoscaler needs boto3, and it can run the MLflow server;
# with the GPU's: MLflow sees what it does.
"$python" -m pip install --quiet --disable-pip-version-check -c constraints.txt \
    ".[server,gpu${2:+,$2}]"
