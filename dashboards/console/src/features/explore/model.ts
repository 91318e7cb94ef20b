import type { Metric } from "@/api/types";

/** What a click on a metric asks first. */
export function firstQuery(m: Metric): string {
  if (m.kind === "counter") return `sum by (${m.level === "cluster" ? "cluster" : m.level}) (increase(${m.name}[1h])) > 0`;
  return m.level === "cluster" || m.level === "node" ? m.name : `topk(10, ${m.name})`;
}
