import { digits, list, plural } from "./language";
import { messages } from "./messages";

const kindsWords: Record<string, string> = { cluster: "cluster", node: "node", namespace: "namespace", workload: "workload", service: "service", pod: "pod", container: "container", volume: "volume", component: "control plane" };
const podsWords: Record<string, string> = { node: "No pod is on this node.", workload: "This workload has no pods now.", service: "Its selector selects no pod now.", namespace: "There are no pods here.", cluster: "There are no pods here." };
const signalsWords: Record<number, string> = { 130: "interrupted", 134: "aborted", 137: "killed (SIGKILL: out of memory, or not gone in time)", 139: "segmentation fault", 143: "asked to end (SIGTERM)" };
const statesWords: Record<string, string> = { waiting: "unknown", idle: "idle", warning: "firing", ok: "ok" };
const limitWords = {
      series_per_cluster: "Series of the cluster", series_per_namespace: "Series of each namespace", series_per_workload: "Series of each workload", samples_per_second: "Samples a second of the cluster", samples_per_namespace: "Samples a second of each namespace", samples_per_workload: "Samples a second of each workload",
      labels_per_series: "Labels of a series", label_name_bytes: "Bytes of a label's name", label_value_bytes: "Bytes of a label's value", senders_per_cluster: "Collectors",
      ahead_seconds: "How far ahead of the clock", behind_seconds: "How old samples may be",
    };

/** Clusters' objects: what they are called, how they are, what is in them. */
export const objects = messages("objects", {
  kinds: kindsWords,
  kindIn: (kind: string, namespace: string) => `${kind} in ${namespace}`,
  clusterKind: (kind: string, version: string) => `${kind} cluster ${version}`.trim(),
  tab: (name: string, namespace: string) => `${name} in ${namespace}`,
  clusters: "Clusters",
  list: { add: "Add a cluster", none: "No cluster sends data yet.", send: (n: number) => `${plural(n, "cluster sends", "clusters send")} data here.` },
  theCluster: "The cluster",
  theCatalogue: "The catalogue of metrics",
  named: (kind: string, name: string) => `${kind.charAt(0).toUpperCase()}${kind.slice(1)} ${name}`,
  gone: (what: string) => `${what} does not exist now`,
  goneWhy: "It was deleted, or never was on this cluster. What was recorded of it in the chosen time is below.",
  toCluster: "Go to the cluster",

  tabs: {
    summary: "Summary", charts: "Charts", namespaces: "Namespaces", workloads: "Workloads", nodes: "Nodes", services: "Services", pods: "Pods", containers: "Containers",
    logs: "Logs", events: "Events", incidents: "Incidents", policies: "Policies", facts: "Facts", sources: "Data sources", logRules: "Log rules", cost: "Cost and limits",
  },
  logsOf: (what: string) => `the logs of ${what}`,
  eventsOf: (what: string) => `the events of ${what}`,
  incidentsNote: "active and past",
  noIncident: (kind: string) => `This ${kind} has had no incident.`,
  filter: "Filter: any words",
  filterWhat: (what: string) => `filter ${what}`,
  restComes: (n: number) => `the worst ${digits(n)}, the rest is loading`,
  shown: (n: number) => `the worst ${digits(n)} of more: filter to find others`,

  columns: {
    state: "State", name: "Name", node: "Node", pod: "Pod", container: "Container", workload: "Workload", namespace: "Namespace", service: "Service", type: "Type", ready: "Ready", why: "Why",
    cpu: "CPU", memory: "Memory", restarts: "Restarts", age: "Age", roles: "Roles", pods: "Pods", kubelet: "Kubelet", workloads: "Workloads", services: "Services", unhealthy: "Unhealthy",
    since: "Since", lastEnded: "Last ended", image: "Image", endpoints: "Endpoints", address: "Address", level: "Level", policy: "Policy", looksAt: "Looks at", summary: "What it says",
    source: "Source", collector: "Collector", measured: "Measured", lastSuccess: "Last success", wrong: "What is wrong",
  },
  units: { cores: "cores", ofLimit: "of limit", percent: "%", hour: "1 h", requestLimit: "request / limit", ready: "ready" },
  facts: {
    allocatable: "Allocatable", pods: "Pods", restarts1h: "Restarts in 1 h", restarts: "Restarts", roles: "Roles", kubelet: "Kubelet", runtime: "Runtime", system: "System", address: "Address", age: "Age",
    ready: "Ready", cpu: "CPU", memory: "Memory", image: "Image", images: "Images", phase: "Phase", node: "Node", network: "Network", nodes: "Nodes", workloads: "Workloads", lastData: "Last data",
    interval: "Interval", id: "Id", requests: "Requested", services: "Services", selector: "Selector", type: "Type", endpoints: "Endpoints", state: "State", started: "Started", limits: "Limits", lastEnd: "Last ended", pod: "Pod",
  },
  coresAndBytes: (cores: string, bytes: string) => `${cores} cores · ${bytes}`,
  ofDesired: (ready: string, desired: string) => `${ready} of ${desired}`,
  nReady: (ready: string, total: string) => `${ready} of ${total} ready`,
  nUnhealthy: (n: string, total: string) => `${n} of ${total} unhealthy`,
  ago: (age: string) => `${age} ago`,
  none: "none",
  noneYet: "none yet",
  never: "never",
  unknown: "unknown",
  notScheduled: "not scheduled",
  notReady: "not ready",
  readyWord: "ready",
  ended: "ended",
  hostNetwork: "the node's (hostNetwork)",
  ownNetwork: "own",
  everySeconds: (n: number) => `${digits(n)} s`,
  ofLimitValue: (percent: string) => ` · ${percent} of limit`,
  headless: "none (headless)",
  noSelector: "none: somebody else names its addresses",
  endpointsValue: (ready: string, notReady: string) => `${ready} ready, ${notReady} not`,
  terminating: "terminating",
  sidecar: "(sidecar)",
  init: "(init)",
  byPod: (title: string) => `${title}, by pod`,
  byContainer: (title: string) => `${title}, by container`,
  moreCharts: "More charts",
  byContainers: "By container",

  empty: {
    nodes: "This cluster has no nodes of its own.", namespaces: "This cluster has no namespaces.", workloads: "There are no workloads here.", services: "There are no services here.",
    containers: "This pod has no container yet.", sources: "No collector of this cluster has reported its sources yet.", policies: "No policy looks at it.",
    pods: podsWords,
    noMatch: (n: string, filter: string) => `None of ${n} matches “${filter}”.`,
  },
  counts: {
    pods: (n: number) => plural(n, "pod"), nodes: (n: number) => plural(n, "node"), workloads: (n: number) => plural(n, "workload"), namespaces: (n: number) => plural(n, "namespace"),
    services: (n: number) => plural(n, "service"), restarts: (n: number) => plural(n, "container restart"), containers: (n: number) => plural(n, "container"),
  },

  words: { terminating: "Terminating", notReady: "Not ready", cordoned: "cordoned", notReadyNode: "not ready" },
  sentences: {
    node: (pods: number, reasons: readonly string[]) => `Ready with ${plural(pods, "pod")}${reasons.length > 0 ? `; ${reasons.join(", ")}` : ""}.`,
    nodeNotReady: (since: string, why: string, pods: number) => `Not ready${since === "" ? "" : ` for ${since}`}${why === "" ? "" : ` (${why})`}; ${plural(pods, "pod")} on it.`,
    workloadBad: (ready: number, desired: number, why: string, restarts: number) => `${digits(ready)} of ${digits(desired)} replicas are ready${why === "" ? "" : `: ${why}`}${restarts > 0 ? `; ${plural(restarts, "container restart")} in the last hour` : ""}.`,
    workloadZero: (restarts: number) => `Scaled to zero${restarts > 0 ? `; ${plural(restarts, "container restart")} in the last hour` : ""}.`,
    workload: (desired: number, restarts: number) => `${desired === 1 ? "Its one replica is" : `All ${digits(desired)} replicas are`} ready${restarts > 0 ? `; ${plural(restarts, "container restart")} in the last hour` : ""}.`,
    pod: (age: string, restarts: number) => `Running and ready, ${age} old${podRestarts(restarts)}.`,
    podIdle: (word: string, age: string, restarts: number) => `${word}, ${age} old${podRestarts(restarts)}.`,
    podBad: (why: string, age: string, restarts: number) => `Not ready: ${why}; ${age} old${podRestarts(restarts)}.`,
    containerIs: (name: string, state: string, reason: string) => `${name} is ${state}${reason === "" ? "" : ` (${reason})`}`,
    containerRuns: (age: string, restarts: number) => `Running for ${age}${restarts > 0 ? `; restarted ${restarts === 1 ? "once" : `${digits(restarts)} times`}` : ""}.`,
    containerNotReady: (age: string, restarts: number) => `Running for ${age}, but not ready${restarts > 0 ? `; restarted ${restarts === 1 ? "once" : `${digits(restarts)} times`}` : ""}.`,
    containerEnded: (reason: string, restarts: number) => `Ended (${reason})${restarts > 0 ? `; restarted ${restarts === 1 ? "once" : `${digits(restarts)} times`} before` : ""}.`,
    containerWaits: (reason: string, restarts: number) => `Waiting${reason === "" ? "" : ` (${reason})`}${restarts > 0 ? `; restarted ${restarts === 1 ? "once" : `${digits(restarts)} times`}` : ""}.`,
    namespace: (bad: number, workloads: number, notReady: number) =>
      bad > 0
        ? `${digits(bad)} of ${plural(workloads, "workload")} ${bad === 1 ? "is" : "are"} unhealthy${notReady > 0 ? `; ${plural(notReady, "pod")} not ready` : ""}.`
        : `${workloads === 0 ? "It has no workloads" : workloads === 1 ? "Its one workload is healthy" : `All ${digits(workloads)} workloads are healthy`}${notReady > 0 ? `; ${plural(notReady, "pod")} not ready` : ""}.`,
    namespaceEnds: "It is being deleted.",
    service: (ready: number, pods: number) => (pods === 0 ? "No pod is behind it." : ready === pods ? `${pods === 1 ? "Its one pod is" : `All ${digits(pods)} pods behind it are`} ready.` : `${digits(ready)} of ${plural(pods, "pod")} behind it ${ready === 1 ? "is" : "are"} ready.`),
    serviceOutside: "It has no selector: somebody else names its addresses.",
  },

  lastEnd: {
    title: (name: string) => `How ${name} ended last`,
    before: "All its lines before that",
    how: (reason: string, code: number, words: string, at: string) => `${reason}, exit code ${code}${words === "" ? "" : `: ${words}`}, at ${at}`,
    failed: (why: string) => `Its last lines could not be loaded: ${why}`,
    none: "No line of it in the hour before its end is kept.",
    column: (reason: string, code: number, age: string) => `${reason} (${code}), ${age} ago`,
    signals: signalsWords,
  },

  policies: {
    title: "Policies that watch it",
    make: "Make a policy",
    looksAt: (n: number, level: string) => (n === 0 ? `${level} level` : n === 1 ? `this ${level}` : plural(n, level)),
    inside: (n: number, level: string) => plural(n, level),
    failed: "The policies",
    states: statesWords,
  },
  facts_: { title: "As the server knows it", what: "the facts", note: "what Kubernetes says of it, and what was measured last" },

  unavailable: {
    title: "Not available here",
    none: "Every metric of the catalogue is filled on this cluster.",
    unknown: "Not known while the cluster’s objects are not.",
    name: "the metric's name",
    why: (title: string, reason: string) => `${title}: ${reason}`,
  },
  sources: {
    what: "data sources",
    title: "Data sources",
    up: "up", blind: "partly blind", down: "down",
    measured: (n: string, expected: string) => `${n} of ${expected}`,
    changed: "Sources over the chosen time",
    changes: (n: number) => (n === 0 ? "No source failed or came back in the chosen time." : `${plural(n, "source")} failed or came back in the chosen time.`),
    change: (name: string, times: number, share: string) => `${name}: changed ${times === 1 ? "once" : `${digits(times)} times`}, up ${share} of the time`,
  },
  collectors: {
    title: "Collectors", version: "Version", role: "Role", seen: "Last seen", queue: "Waiting", clock: "Clock", connected: "connected", silent: "silent", dropped: "Given up", none: "No collector has connected since the server started.",
  },
  cost: {
    title: "What this cluster costs", series: "Series", samples: "Samples", lines: "Log lines", bytesOnDisk: "On disk", perSecond: (n: string) => `${n}/s`, newSeries: "New series since the start", senders: "Collectors",
    linesBytes: "Log bytes", limits: "Limits", limit: "Limit", value: "Value", used: "Used", noLimit: "none", refused: "Refused", noRefused: "Nothing was refused since the server's start.",
    from: "Where series come from", metric: "Metric", churn: "New in 1 h", notYet: "It has sent no samples since the server's start.",
    names: limitWords,
    store: (name: string) => `${({ metrics: "Samples", logs: "Lines", meta: "Policies", inventory: "Objects" } as Record<string, string>)[name] ?? name} on disk, all clusters`,
    by: { metrics: "Metrics", namespaces: "Namespaces", workloads: "Workloads" },
  },
  spark: (what: string, last: string) => `${what}, now ${last}`,
  join: (all: readonly string[]) => list(all),
});

function podRestarts(n: number): string {
  return n > 0 ? `; its containers restarted ${n === 1 ? "once" : `${digits(n)} times`}` : "";
}
