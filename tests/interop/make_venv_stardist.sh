#!/bin/sh
# Makes the Python environment that check_stardist.py compares with:
#   tests/interop/make_venv_stardist.sh PYTHON3.11 VENV [pip options]
# StarDist 0.9.1 needs Keras 2, which TensorFlow 2.15 is the last to have, which needs numpy 1.
set -eu
python=$1 venv=$2
shift 2
"$python" -m venv "$venv"
"$venv/bin/pip" install "$@" stardist==0.9.1 tensorflow-cpu==2.15.1 numpy==1.26.4
