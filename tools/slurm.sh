# Sourced by benchmark_refit_kimi_k2.sh and benchmark_refit_sbatch.sh: the suite on a Slurm allocation.
# What the environment can say is listed in docs/slurm.md.

refuse() {
  echo "$*" >&2
  exit 2
}

# Reads the environment into: root, results, python, container (options of srun).
read_surroundings() {
  root="$1"
  [ -n "${SLURM_JOB_ID:-}" ] || refuse "${0##*/} runs inside a Slurm allocation, and there is none: see docs/slurm.md"
  cd "$root"
  results="${REFIT_RESULTS:-$root/results}"
  mkdir -p "$results" || refuse "REFIT_RESULTS $results cannot be written"
  results="$(cd "$results" && pwd)"
  container=()
  python="${REFIT_PYTHON:-}"
  if [ -n "${CONTAINER_IMAGE:-}" ]; then
    python="${python:-python3}"
    container=(--container-image="$CONTAINER_IMAGE" --container-mounts="$(mounts)" --container-workdir="$root")
  elif [ -z "$python" ]; then
    python="$root/.venv/bin/python"
    [ -x "$python" ] || python=python3
  fi
  export PYTHONUNBUFFERED=1
}

# The mounts asked for, with the suite and its results where they lie.
mounts() {
  local wanted="${CONTAINER_MOUNTS:-}" folder
  for folder in "$root" "$results"; do
    case ",$wanted," in
      *",$folder:$folder,"* | *",$folder:$folder:"*) ;;
      *) wanted="${wanted:+$wanted,}$folder:$folder" ;;
    esac
  done
  echo "$wanted"
}

# Python once, where the ranks would run it: on this machine, or in the container on the first node.
python_once() {
  if [ "${#container[@]}" -eq 0 ]; then
    "$python" "$@"
  else
    srun --nodes=1 --ntasks=1 --overlap "${container[@]}" "$python" "$@"
  fi
}

# Chooses the run's file: a requeued job goes on with its own, REFIT_RESUME with the one it names.
choose_run() {
  local first number=1
  if [ -n "${REFIT_RESUME:-}" ]; then
    [ -r "$REFIT_RESUME" ] || refuse "REFIT_RESUME $REFIT_RESUME cannot be read"
    run_file="$(realpath "$REFIT_RESUME")"
  else
    first="${SLURM_JOB_NAME:-refit}-$SLURM_JOB_ID"
    first="${REFIT_RUN:-${first//[^[:alnum:]._-]/-}}" # the job's name may hold anything
    case "$first" in .* | */*) refuse "REFIT_RUN $first is no plain file name" ;; esac
    run_file="$results/$first.jsonl"
    if [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ]; then
      while [ -e "$run_file" ]; do
        number=$((number + 1))
        run_file="$results/$first-$number.jsonl"
      done
    fi
  fi
  run="$(basename "$run_file" .jsonl)"
  run_options=(--results "$results" --run-name "$run")
  [ ! -e "$run_file" ] || run_options+=(--resume "$run_file")
}

# Collects once before the step: what is wrong with the options is said once, not by every task.
check_options() {
  local code=0 said
  said="$(python_once -m pytest --collect-only -qq "$@" 2>&1)" || code=$?
  [ "$code" -eq 0 ] || echo "$said" >&2
  return "$code"
}

# What the step's processes know each other by: 256 random bits, which no command line shows.
secret() {
  [ -z "${REFIT_SECRET:-}" ] || { echo "$REFIT_SECRET" && return; }
  od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

# One step on all tasks of the allocation; then the summary. Returns the suite's exit code.
run_suite() {
  local code=0 extra tests
  read -r -a extra <<<"${REFIT_SRUN_ARGS:-}"
  read -r -a tests <<<"${REFIT_TESTS:-tests/perf}"
  choose_run
  check_options "${tests[@]}" "${run_options[@]}" "$@" || return
  trap : TERM # scancel and the time limit end the step; the summary is still written
  REFIT_SECRET="$(secret)" srun --kill-on-bad-exit=1 --wait=0 --cpu-bind=none ${container[@]+"${container[@]}"} \
    ${extra[@]+"${extra[@]}"} "$python" -m pytest "${tests[@]}" "${run_options[@]}" \
    --junitxml "$results/$run.xml" "$@" || code=$?
  summarise
  return "$code"
}

# The run's table beside its records; `tools summary` answers with the run's own exit code.
summarise() {
  local file="${run_file%.jsonl}.summary.txt"
  if [ ! -e "$run_file" ]; then
    echo "no case was finished: there is no $run_file" >&2
    return
  fi
  python_once -m tools summary "$run_file" --width 160 >"$file" || true
  echo "summary: $file"
}
