#!/usr/bin/env bash
# All Kimi K2 refits on one allocation: sbatch benchmark_refit_kimi_k2.sh [pytest options]
# Every #SBATCH line yields to sbatch's own options and SBATCH_* variables; the rest is in docs/slurm.md.
#SBATCH --job-name=refit-kimi-k2
#SBATCH --nodes=16
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
set -euo pipefail

# SRC_TP:SRC_EP:DST_TP:DST_EP:MODE:METHOD:DESCRIPTION; ranks that a scenario does not need stay idle
scenarios=(
  # <!-- table:slurm-rows -->
  "8:8:8:4:non-collocated:nvshmem:EP baseline"
  "16:4:8:4:non-collocated:nvshmem:TP baseline"
  "16:4:16:2:non-collocated:nvshmem:EP change at finer TP"
  "16:4:32:2:non-collocated:nvshmem:TP and EP change"
  "8:8:16:4:non-collocated:nvshmem:strategy shift"
  "16:8:8:16:collocated:nccl:collocated best case"
  "32:4:16:8:collocated:nccl:collocated TP scaling"
  # <!-- /table:slurm-rows -->
)

# sbatch runs a copy of this script from its spool folder
find_root() {
  local folder script
  script="$(scontrol show job "${SLURM_JOB_ID:-0}" 2>/dev/null | sed -n 's/^ *Command=\([^ ]*\).*/\1/p' || true)"
  for folder in "$(dirname "${BASH_SOURCE[0]}")" "${SLURM_SUBMIT_DIR:-.}" "$(dirname "${script:-.}")"; do
    if [ -f "$folder/tools/slurm.sh" ]; then
      (cd "$folder" && pwd)
      return
    fi
  done
  echo "the suite is not found beside ${script:-this script}: submit from its folder" >&2
  exit 2
}

root="$(find_root)"
source "$root/tools/slurm.sh"
read_surroundings "$root"

[ -z "${REFIT_SCENARIOS:-}" ] || mapfile -t scenarios < <(tr ';' '\n' <<<"$REFIT_SCENARIOS")
options=()
for row in "${scenarios[@]}"; do
  scenario="${row#"${row%%[![:space:]]*}"}" # without the blanks around it; all else is text
  scenario="${scenario%"${scenario##*[![:space:]]}"}"
  [ -z "$scenario" ] || options+=(--scenario "$scenario")
done
for engine in ${REFIT_ENGINES:-}; do options+=(--engine "$engine"); done
for method in ${REFIT_METHODS:-}; do options+=(--method "$method"); done
[ -z "${REFIT_MODEL:-}" ] || options+=(--model "$REFIT_MODEL")
[ -z "${REFIT_NUM_LAYERS:-}" ] || options+=(--num-layers "$REFIT_NUM_LAYERS")
[ -z "${REFIT_TWIN:-}" ] || options+=(--twin "$REFIT_TWIN")
[ -z "${REFIT_WARMUP:-}" ] || options+=(--warmup "$REFIT_WARMUP")
[ -z "${REFIT_ITERATIONS:-}" ] || options+=(--iterations "$REFIT_ITERATIONS")
read -r -a more <<<"${REFIT_PYTEST_ARGS:-}"

run_suite "${options[@]}" ${more[@]+"${more[@]}"} "$@"
