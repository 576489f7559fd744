#!/usr/bin/env bash
# Installs the job's Python packages on a cluster node, from a wheelhouse in S3 and from nowhere
# else: the node needs no package index, no pip and no way to the internet.
#
#   install.sh s3://bucket/wheelhouse.zip [prefix]
#
# The zip holds what `python -m bootstrap.wheelhouse` builds. The packages go into a virtual
# environment at the prefix, /opt/orchard by default, that every user of the node can read;
# <prefix>/bin/python then runs driver and executors. Running it again changes nothing. It becomes
# root only to create a prefix that its user may not create. AWS_REGION and AWS_ENDPOINT_URL are
# honoured.
set -euo pipefail
umask 022

readonly python=python3.11

main() {
  [[ $# -ge 1 && $# -le 2 && $1 == s3://*/* ]] ||
    fail "wrong arguments: give s3://bucket/wheelhouse.zip and, if it is not /opt/orchard, the prefix."
  local uri=$1 prefix=${2:-/opt/orchard} started=$SECONDS
  require "$python" "which every EMR 7 release has"
  require aws "the AWS command line, which every EMR release has"
  unset PYTHONHOME PYTHONPATH

  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  local wheelhouse=$scratch/wheelhouse
  find_region
  download "$uri" "$wheelhouse"
  check_wheelhouse "$uri" "$wheelhouse"

  if has_installed "$wheelhouse" "$prefix"; then
    log "$prefix already has the packages of $uri; nothing to do."
    return
  fi
  make_prefix "$prefix"
  install_packages "$wheelhouse" "$prefix"
  self_test "$prefix"
  # Written last: a prefix without it is one whose installation did not finish.
  cp "$wheelhouse/SHA256SUMS" "$prefix/SHA256SUMS"
  log "installed into $prefix in $((SECONDS - started)) s."
}

# The command line's older major version takes us-east-1 when it knows no region, and a subnet
# whose only way out is its own region's S3 endpoint cannot reach that: ask the instance.
find_region() {
  local region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}} metadata=http://169.254.169.254/latest token
  if [[ -z $region && -z ${AWS_ENDPOINT_URL:-} ]]; then
    token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") &&
      region=$(curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/placement/region") ||
      log "the instance does not say its region; leaving it to the AWS command line."
  fi
  if [[ -n $region ]]; then
    export AWS_REGION=$region AWS_DEFAULT_REGION=$region
  fi
}

download() {
  local uri=$1 wheelhouse=$2 archive=$scratch/wheelhouse.zip
  aws s3 cp --only-show-errors "$uri" "$archive" ||
    fail "cannot download $uri: check that it exists and that this node's role may read it."
  "$python" -m zipfile -e "$archive" "$wheelhouse" ||
    fail "$uri is not a whole zip archive: build the wheelhouse and deploy it again."
  rm "$archive"
}

check_wheelhouse() {
  local uri=$1 wheelhouse=$2 wanted failed
  [[ -f $wheelhouse/SHA256SUMS && -f $wheelhouse/architecture && -f $wheelhouse/requirements.txt ]] ||
    fail "$uri is not a wheelhouse: build one with 'make wheelhouse' and deploy it again."
  read -r wanted <"$wheelhouse/architecture"
  [[ $wanted == "$(uname -m)" ]] ||
    fail "the wheelhouse is for $wanted and this node is $(uname -m): build the other one, or choose instances of that architecture."
  failed=$(cd "$wheelhouse" && sha256sum --check --strict --quiet SHA256SUMS 2>/dev/null) ||
    fail "the wheelhouse at $uri is damaged (${failed//$'\n'/, }): build it and deploy it again."
}

has_installed() {
  local wheelhouse=$1 prefix=$2
  [[ -f $prefix/SHA256SUMS && $(<"$prefix/SHA256SUMS") == $(<"$wheelhouse/SHA256SUMS") ]] || return 1
  (self_test "$prefix")
}

# Makes an empty directory of the prefix, and never empties one that is not an installation.
make_prefix() {
  local prefix=$1
  if ! { mkdir -p "$prefix" && [[ -w $prefix ]]; } 2>/dev/null; then
    sudo -n install -d -o "$(id -u)" -g "$(id -g)" -m 755 "$prefix" 2>/dev/null ||
      fail "$(id -un) may not write to $prefix: give a prefix that it may write to, or the right to use sudo."
  fi
  if [[ -n $(ls -A "$prefix") ]]; then
    [[ -f $prefix/pyvenv.cfg ]] ||
      fail "$prefix has files in it that are not an installation of this: empty it or give another prefix."
    log "replacing what is in $prefix."
    find "$prefix" -mindepth 1 -delete || fail "$(id -un) may not replace what is in $prefix: remove it first."
  fi
}

# The pip is the wheelhouse's own, run from its wheel: Amazon Linux packages pip and the wheels of
# ensurepip apart from Python, so a node need not have either.
install_packages() {
  local wheelhouse=$1 prefix=$2 pip
  pip=$(echo "$wheelhouse"/pip-*.whl)
  "$python" -m venv --without-pip "$prefix" || fail "$python cannot make a virtual environment in $prefix."
  "$prefix/bin/python" "$pip/pip" --isolated --disable-pip-version-check install --quiet \
    --no-index --find-links "$wheelhouse" --only-binary :all: --no-cache-dir \
    --require-hashes --no-compile \
    --requirement "$wheelhouse/requirements.txt" ||
    fail "pip could not install the wheelhouse into $prefix; its message is above."
  # On all cores, unlike pip's. The job's user may not write here, so that each of its processes
  # would compile all it imports; a file that does not compile is the self-test's business.
  "$prefix/bin/python" -m compileall -qq -j 0 "$prefix/lib" || true
}

# Imports all that the job imports, decodes a photograph, and logs the versions.
self_test() {
  local prefix=$1
  "$prefix/bin/python" -I - <<'PY' || fail "the packages in $prefix do not work on this node; Python's message is above."
import io
import platform
from importlib.metadata import distributions

import numpy
import pandas
import pyarrow.fs
import pyarrow.parquet
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

photograph = io.BytesIO()
Image.new("RGB", (100, 100), "orange").save(photograph, "JPEG")
pixels = numpy.asarray(Image.open(photograph).convert("RGB"))
if pixels.shape != (100, 100, 3):
    raise SystemExit(f"A photograph of 100 x 100 pixels decodes to {pixels.shape}.")
pyarrow.Table.from_pandas(pandas.DataFrame({"pixel": pixels[0, :, 0]}))
for name in (pyarrow.fs.S3FileSystem, Interpreter):
    if not callable(name):
        raise SystemExit(f"{name} is not usable.")

versions = sorted(f"{found.name} {found.version}" for found in distributions())
print("Python", platform.python_version(), "with", ", ".join(versions))
PY
}

require() {
  command -v "$1" >/dev/null || fail "this node has no $1, $2."
}

log() {
  echo "install.sh: $*"
}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

main "$@"
