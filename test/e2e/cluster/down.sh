#!/usr/bin/env bash
# Stops what up.sh started, by its pid files, and removes its pods' mounts and containers.
set -uo pipefail
state=${1:-${TESTCLUSTER_STATE:-/var/tmp/testcluster}}
cd "$state" || exit 0
bin=${TESTCLUSTER_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/testcluster/bin}
export PATH=$PATH:/usr/sbin:/sbin
stop() { # NAME: ends the daemon, when the number in its pid file is still that daemon's
  local pid; pid=$(cat "pid/$1" 2>/dev/null) || return 0
  if [[ $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) == *$1* ]]; then
    kill "$pid" 2>/dev/null
    for _ in {1..40}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
  fi
  rm -f "pid/$1"
}
stop kubelet; stop kube-proxy; "$bin/kube-proxy" --cleanup >/dev/null 2>&1
if [[ -S containerd/containerd.sock ]]; then
  c() { ctr -a containerd/containerd.sock -n k8s.io "$@"; }
  for t in $(c tasks ls -q); do c tasks kill -s SIGKILL "$t"; done >/dev/null 2>&1
  sleep 1
  for t in $(c tasks ls -q); do c tasks rm -f "$t"; done >/dev/null 2>&1
  for k in $(c containers ls -q); do c containers rm "$k"; done >/dev/null 2>&1
fi
# Containers that were ended without their network's plugin keep their addresses: after some runs there would be none left.
rm -rf /var/lib/cni/networks/testcluster
for d in scheduler controller-manager apiserver etcd containerd; do stop $d; done
grep -o " $state/[^ ]*" /proc/mounts | sort -r | while read -r m; do umount "$m"; done
[[ ${2:-} == --purge ]] && rm -rf "$state"
exit 0
