#!/bin/sh
# Makes the Python environments that check_cellpose.py compares with:
#   tests/interop/make_venvs.sh PYTHON3.11 VENV_CELLPOSE3 VENV_CELLPOSE2 [pip options, e.g. --find-links DIR]
# Each takes about 5 GB with PyTorch's CUDA build; with `--extra-index-url https://download.pytorch.org/whl/cpu`
# much less. Cellpose 2.3.2 needs numpy 1, and opencv before 4.12, which asks for numpy 2.
set -eu
python=$1 cellpose3=$2 cellpose2=$3
shift 3
"$python" -m venv "$cellpose3"
"$cellpose3/bin/pip" install "$@" cellpose==3.1.1.3 torch==2.6.0 'numpy<2.1'
"$python" -m venv "$cellpose2"
"$cellpose2/bin/pip" install "$@" cellpose==2.3.2 torch==2.6.0 'numpy<2' 'opencv-python-headless<4.12'
