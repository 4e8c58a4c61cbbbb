#!/usr/bin/env bash
# Judge a night's run, publish what people look at, and leave with the night's exit code.
#
#   nightly.sh RUN.jsonl SUITE_EXIT_CODE
#
# RUN.jsonl lies in STORE/all. STORE/good links the runs that were not judged worse: the baseline of later nights.
# PUBLISH receives page.html, summary.md, compare.md and compare.json; with LEDGER=1 also defects.txt and
# defects.json, and the page has a section of them.
# Exit code: the suite's own when it is not 0, 1 when something is slower, else 0. "Cannot tell" (the first nights)
# is written into compare.md and leaves the night green.
set -euo pipefail

run=${1:?RUN.jsonl is missing}
suite=${2:?SUITE_EXIT_CODE is missing}
store=${STORE:-results/nightly}
publish=${PUBLISH:-$store/page}
python=${PYTHON:-python}

mkdir -p "$store/good" "$publish"
"$python" -m tools check-results "$run"
ledger=()
if [ -n "${LEDGER:-}" ]; then
  "$python" -m tools ledger --write "$publish/defects.json" > "$publish/defects.txt"
  ledger=(--ledger "$publish/defects.json")
fi
"$python" -m tools report "$store/all" -o "$publish/page.html" "${ledger[@]}"
"$python" -m tools report "$run" --markdown > "$publish/summary.md"

sides=("$store/good" "$store/all" --base-last "${BASE_RUNS:-30}" --new-last "${NEW_RUNS:-7}")
verdict=0
"$python" -m tools compare "${sides[@]}" --markdown > "$publish/compare.md" 2> "$publish/compare.err" || verdict=$?
"$python" -m tools compare "${sides[@]}" --json > "$publish/compare.json" 2>/dev/null || true
cat "$publish/compare.md" "$publish/compare.err"

if [ "$suite" -eq 0 ] && [ "$verdict" -ne 1 ]; then
  ln -sfn "$(realpath "$run")" "$store/good/$(basename "$run")"
fi
if [ "$suite" -ne 0 ]; then
  exit "$suite"
fi
[ "$verdict" -ne 1 ]
