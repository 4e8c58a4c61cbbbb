#!/usr/bin/env bash
# Prints a Python that can run the suite (>= 3.12); says in one sentence what to do where there is none.
set -u
wanted='import sys; sys.exit(sys.version_info < (3, 12))'
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
version="$(cat "$root/.python-version" 2>/dev/null || echo 3.12)"

for candidate in "${PYTHON:-}" "python$version" python3 python; do
  [ -n "$candidate" ] || continue
  if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$wanted" >/dev/null 2>&1; then
    command -v "$candidate"
    exit 0
  fi
done
if command -v uv >/dev/null 2>&1 && found="$(uv python find "$version" 2>/dev/null)"; then
  echo "$found"
  exit 0
fi
for found in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version"*/bin/python; do
  if [ -x "$found" ] && "$found" -c "$wanted" >/dev/null 2>&1; then
    echo "$found"
    exit 0
  fi
done
echo "megatron-core 0.19 needs Python >= 3.12, and only $(python3 --version 2>&1) was found: install Python $version (for example 'pyenv install $version' or 'uv python install $version') or name one with PYTHON=/path/to/python make ..." >&2
exit 1
