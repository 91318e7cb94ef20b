#!/usr/bin/env bash
# Starts a server with a simulated cluster and one without any, and opens the console's pages while the
# first misbehaves (broken.mjs). Screenshots are left in OUT; both servers end with it.
#
#   bash dashboards/console/e2e/broken.sh [arguments of broken.mjs, as --only names,empty]
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
out=${OUT:-$work/screenshots}
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [[ $out == "$work"/* ]]; then echo "screenshots are in $out"; rm -rf "$work/full" "$work/empty"; else rm -rf "$work"; fi
}
trap finish EXIT

free() { node -e 'const s = require("node:net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }
full=http://127.0.0.1:$(free)
"$root/bin/crowsnest" run --simulate --history 10m --data "$work/full" --listen "${full#http://}" >"$work/full.log" 2>&1 &
pids+=($!)
empty=http://127.0.0.1:$(free)
"$root/bin/crowsnest" server --data "$work/empty" --listen "${empty#http://}" >"$work/empty.log" 2>&1 &
pids+=($!)
for base in "$full" "$empty"; do
  for ((i = 0; ; i++)); do
    if curl -sf "$base/readyz" >/dev/null; then break; fi
    if ((i > 120)); then echo "$base is not ready"; tail -n 5 "$work"/*.log; exit 1; fi
    sleep 0.5
  done
done

# The first object of a kind whose name fits, by the API.
first() { curl -sf "$full/apis/crowsnest.dev/v1/clusters/simulated/$1" | node -e 'const { items } = JSON.parse(require("node:fs").readFileSync(0)); console.log(items.find((o) => new RegExp(process.argv[1]).test(o.name))?.name ?? "")' "$2"; }
for ((i = 0; i < 60; i++)); do
  pod=$(first "pods?namespace=shop" '^cart-[a-z0-9]+-[a-z0-9]+$' 2>/dev/null || true) # nothing is said before the cluster is known
  if [[ -n $pod ]]; then break; fi
  sleep 1
done
node=$(first nodes .)
cd "$root/dashboards/console"
node e2e/broken.mjs --base "$full" --empty "$empty" --cluster simulated --namespace shop --workload deployment/cart --pod "$pod" --node "$node" --out "$out" --collector "$root/bin/crowsnest-collector" "$@"
