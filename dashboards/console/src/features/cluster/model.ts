import type { Cluster, ClusterSource, Metric } from "@/api/types";

export interface LackingMetrics {
  readonly reason: string;
  readonly metrics: readonly { readonly name: string; readonly title: string }[];
}

/** What a cluster does not have, put together by reason. */
export function byReason(
  unavailable: readonly { readonly metric: string; readonly reason: string }[],
  catalogue: readonly Metric[],
): LackingMetrics[] {
  const titles = new Map(catalogue.map((m) => [m.name, `${m.level}: ${m.title}`]));
  const found = new Map<string, { name: string; title: string }[]>();
  for (const u of unavailable) {
    found.set(u.reason, [...(found.get(u.reason) ?? []), { name: u.metric, title: titles.get(u.metric) ?? u.metric }]);
  }
  return [...found].map(([reason, metrics]) => ({ reason, metrics }));
}

/** A source is blind when it measured less than it should have. */
export const sourceState = (s: ClusterSource): "ok" | "warning" | "critical" =>
  !s.up ? "critical" : s.measured < s.expected ? "warning" : "ok";

/** Whether what a cluster lacks is known: nothing is, before its objects are. */
export const knowsItsObjects = (c: Pick<Cluster, "sources">): boolean => c.sources.some((s) => s.name === "objects" && s.up);
