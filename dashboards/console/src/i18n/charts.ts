import { messages } from "./messages";

const groupsWords: Record<string, string> = {
    cpu: "CPU", memory: "Memory", network: "Network", fs: "Disk", fs_times: "Disk operations", cpu_cores: "CPU cores", memory_bytes: "Memory", hpa: "Autoscaler", job: "Job", start: "Start",
    tcp: "TCP connections", capacity: "Capacity", nodes: "Nodes", pods: "Pods", workloads: "Workloads", requests: "Requested", load: "Load", network_errors: "Network errors", packets: "Packets",
    replicas: "Replicas", endpoints: "Endpoints", gpu: "GPU", memory_limit: "Memory of limit", memory_node: "Memory of node", memory_request: "Memory of request", volume: "Volume",
  };
const statisticsWords: Record<string, string> = { increase: "increase in", avg: "average of", max: "maximum of", min: "minimum of", last: "last of", sum: "sum of" };
const marksWords: Record<string, string> = { incident: "incident", change: "change", event: "warning" };

/** Charts: titles of their groups, their legend and what can be taken from them. */
export const charts = messages("charts", {
  groups: groupsWords,
  cpuCapacity: "CPU capacity",
  memoryCapacity: "Memory capacity",
  /** Followed by a length of time. */
  statistics: statisticsWords,
  each: (statistic: string, step: string) => `${statistic} each ${step}`,
  every: (step: string) => `value every ${step}`,
  readFrom: (each: string, buckets: string) => `${each}, from ${buckets} values`,
  of: (title: string) => `chart of ${title}`,
  lacking: "Not available on this cluster",
  failed: "Could not be loaded",
  old: (why: string) => `not refreshed: ${why}`,
  none: "No data in this range",
  absent: (when: string) => `There is none when ${when}.`,
  legend: "legend",
  min: "min",
  avg: "avg",
  max: "max",
  last: "last",
  left: (n: number) => `${n} more with lower peaks are not drawn`,
  close: "close",
  logs: "logs",
  events: "events",
  marks: marksWords,
  threshold: (policy: string) => `threshold of ${policy}`,
  csv: "CSV",
  yes: "yes",
  no: "no",
  compare: { none: "nothing", day: "yesterday", week: "last week", dayBefore: "a day before", weekBefore: "a week before", tooMany: "too many lines to compare", nothing: (when: string) => `no values ${when}` },
  menu: {
    take: (title: string) => `take from the chart ${title}`,
    explore: "Open in Explore",
    policy: "Make a policy",
    pin: "Pin to a board",
    promql: "Copy PromQL",
    name: "Copy the metric’s name",
    link: "Copy a link to this time",
    csv: "Save as CSV",
    png: "Save as PNG",
  },
});
