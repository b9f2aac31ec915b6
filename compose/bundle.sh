#!/bin/sh
# Writes one archive that starts the lab on a machine without a network: the checkout, the Python packages, and the image
# if a Docker engine answers. On the other machine: tar xf …, cd …, make lab-up.
# Usage: compose/bundle.sh PYTHON [OUTPUT-FOLDER]
set -eu

python=$1
output=${2:-dist}
tag=$("$python" -c 'import platform, sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-{platform.system().lower()}-{platform.machine()}")')
name=inference-routing-lab
archive=$output/$name-$tag.tar

say() { printf '· %s\n' "$*"; }

mkdir -p "$output"
work=$(mktemp -d "$output/.bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
here=$work/$name
mkdir "$here"

say "the checkout as it is"
git ls-files -z --cached --others --exclude-standard | xargs -0 tar --create --ignore-failed-read --file - | tar --extract --file - --directory "$here"

say "the Python packages of requirements.lock, for $tag"
mkdir -p "$here/carried/wheels"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
  --requirement requirements.lock --dest "$here/carried/wheels"
echo "$tag" > "$here/carried/wheels.txt"

if docker info >/dev/null 2>&1; then
  "$python" -m lab.runtime.compose.image_export "$here/carried"
else
  say "no Docker engine answers here, so the bundle has no image: labs of processes only"
fi

say "packing"
tar --create --file "$archive.new" --directory "$work" "$name"
mv "$archive.new" "$archive"
say "$archive, $(du -h "$archive" | cut -f 1): unpack it, then make lab-up; needs make and ${tag%%-*} with venv, no network"
