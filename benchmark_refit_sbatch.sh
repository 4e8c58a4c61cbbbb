#!/usr/bin/env bash
# One refit with Megatron's flags, inside an allocation (salloc --nodes=12 --ntasks-per-node=8 --gpus-per-node=8):
#   ./benchmark_refit_sbatch.sh --tensor-model-parallel-size 16 --expert-model-parallel-size 4 \
#     --rl-inference-tensor-model-parallel-size 8 --rl-inference-expert-model-parallel-size 4 \
#     --refit-mode non-collocated --refit-method nvshmem [-- pytest options]
# Flags without effect on a refit are listed as ignored, unknown ones refused by name: docs/slurm.md.
set -euo pipefail

folder="$(dirname "${BASH_SOURCE[0]}")"
[ -f "$folder/tools/slurm.sh" ] || folder="${SLURM_SUBMIT_DIR:-$folder}"
root="$(cd "$folder" && pwd)"
source "$root/tools/slurm.sh"
read_surroundings "$root"

mapped="$(python_once -m tools megatron-flags "$@")"
eval "options=($mapped)"
run_suite "${options[@]}"
