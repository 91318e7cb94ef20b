#!/usr/bin/env bash
# Installs and builds what the end-to-end tests run on, once: the test cluster's programs, a browser, promtool.
set -euo pipefail
cd "$(dirname "$0")"
tools=${XDG_CACHE_HOME:-$HOME/.cache}/crowsnest/tools

if ! command -v chromium >/dev/null; then
  [[ $(id -u) == 0 ]] || { echo "prepare.sh: chromium is missing, and only root can install it" >&2; exit 1; }
  echo "installing chromium" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
fi
bash cluster/build.sh

# Without the service discoveries it compiles in a third of the time; queries need none.
version=$(cd ../../tools/promtool && go list -m -f '{{.Version}}' github.com/prometheus/prometheus)
if [[ $(cat "$tools/promtool.version" 2>/dev/null) != "$version" || ! -x $tools/promtool ]]; then
  mkdir -p "$tools"
  echo "building promtool $version" >&2
  (cd ../../tools/promtool && CGO_ENABLED=0 go build -tags remove_all_sd -o "$tools/promtool" github.com/prometheus/prometheus/cmd/promtool)
  echo "$version" >"$tools/promtool.version"
fi
