#!/bin/sh
# Installs this checkout and the packages that it needs, or those of one extra or dependency group of pyproject.toml, into
# a virtual environment; those of `dev` are all. Versions and hashes are those of requirements.lock. It installs uv, which takes seconds for the rest. Where
# uv cannot install them, pip installs everything that is locked, at once.
# Usage: .ci/install.sh PYTHON [NAME]
set -eu

python=$1
name=${2:-}
bin=$(dirname "$python")
everything=$bin/../everything  # exists if no package is missing

say() { printf '· %s\n' "$*" >&2; }
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }
uv() { "$bin/uv" pip install --quiet --compile-bytecode --python "$python" "$@"; }

# Packages come from where pip has them, if it is configured, and with the certificates that this machine trusts.
get_uv() {
  [ -z "${PIP_NO_INDEX:-}" ] || return 1
  [ -z "$name" ] || { [ -x "$bin/uv" ]; return; }
  sed -n '/^uv==/,/[^\\]$/p' requirements.lock > "$bin/../uv.txt"
  pip install --require-hashes --requirement "$bin/../uv.txt"
}
known() {
  "$python" -c '
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
names = [*project["project"]["optional-dependencies"], "dev", "docs"]
sys.exit(sys.argv[1] not in ["", *names] and f"no extra {sys.argv[1]!r}; there are " + ", ".join(names))' "$name"
}
with_uv() {
  get_uv || return 1
  index=$("$python" -m pip config list | sed -n "s/^[^=]*\.index-url='\(.*\)'$/\1/p" | head -n 1)
  export UV_SYSTEM_CERTS=true ${index:+UV_DEFAULT_INDEX="$index"}
  case $name in
    "") set -- --group editable ;;
    dev) set -- --all-extras --group dev ;;
    docs) set -- --group docs ;;
    *) set -- --extra "$name" ;;
  esac
  uv --require-hashes --constraint requirements.lock --requirement pyproject.toml "$@" || return 1
  [ -n "$name" ] || uv --no-deps --no-build-isolation --editable .
}
with_pip() {
  say "installing with pip instead of uv: the same packages, a minute slower"
  pip install --require-hashes --requirement requirements.lock
  pip install --no-deps --no-build-isolation --editable .
  touch "$everything"
}

known || exit 1
[ -n "$name" ] || rm -f "$everything"
[ ! -e "$everything" ] || exit 0
[ -z "$name" ] || say "installing the packages of '$name' (once, seconds)"
with_uv || with_pip
[ "$name" != dev ] || touch "$everything"
