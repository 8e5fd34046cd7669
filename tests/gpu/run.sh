#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one: builds, gates, the runtime, and the table beside PyTorch.
#   tests/gpu/run.sh                       all of it; pytest's own options follow, as -m "not slow"
#   AUTOVOICE_GPU_OUTPUTS=/somewhere       keeps what is built, so that a second run has little to do
# Needs torch, tensorrt and cuda-python of the versions in pyproject.toml: pip install -e '.[tensorrt,dev]'
set -euo pipefail
cd "$(dirname "$0")/../.."
python3 -m autovoice task=doctor
exec python3 -m pytest -p no:xdist tests/gpu tests/backends/torch/test_backend.py -ra --durations=10 "$@"
