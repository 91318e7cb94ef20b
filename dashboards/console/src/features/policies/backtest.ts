import type { components } from "@/api/schema";
import { instant } from "@/ui/format";

export type Backtest = components["schemas"]["Backtest"];
export type Replay = components["schemas"]["Replay"];
type ReplayAlert = components["schemas"]["ReplayAlert"];

/** One would-be alert on an object's lane, in seconds since the epoch. */
export interface Bar {
  readonly from: number;
  readonly to: number;
  readonly open: boolean;
  readonly severity: string;
  readonly peak: number | null;
  readonly unit: string;
  readonly explanation: string;
}

export interface Lane {
  readonly name: string;
  readonly bars: readonly Bar[];
  readonly seconds: number;
}

/** An object as people name it, the most specific part first: "cart-1 in shop", with what tells its values apart. */
export function objectName(o: Readonly<Record<string, string>>, dimensions: Readonly<Record<string, string>> | undefined, inNamespace: (name: string, namespace: string) => string): string {
  const pod = o.container !== undefined && o.pod !== undefined ? `${o.pod} ${o.container}` : undefined;
  const name = pod ?? o.pod ?? o.volume ?? o.service ?? o.workload ?? o.node ?? o.component ?? o.namespace ?? o.cluster ?? "";
  const placed = o.namespace !== undefined && name !== o.namespace ? inNamespace(name, o.namespace) : name;
  return [placed, ...Object.values(dimensions ?? {})].join(" ");
}

const bar = (a: ReplayAlert, end: number): Bar => ({
  from: instant(a.startedAt) ?? end,
  to: instant(a.endedAt) ?? end,
  open: a.endedAt === null,
  severity: a.severity,
  peak: a.peak,
  unit: a.unit,
  explanation: a.explanation,
});

/** A lane for each object that would have had an alert, the one that was bad longest first. */
export function lanes(r: Replay, endSeconds: number, inNamespace: (name: string, namespace: string) => string): Lane[] {
  const by = new Map<string, Bar[]>();
  for (const a of r.incidents.flatMap((i) => i.alerts)) {
    const several = new Set(r.clusters.map((c) => c.cluster)).size > 1;
    const name = `${several && a.object.cluster !== undefined ? `${a.object.cluster} ` : ""}${objectName(a.object, a.dimensions, inNamespace)}`;
    by.set(name, [...(by.get(name) ?? []), bar(a, endSeconds)]);
  }
  return [...by]
    .map(([name, bars]) => ({ name, bars: [...bars].sort((a, b) => a.from - b.from), seconds: bars.reduce((sum, b) => sum + b.to - b.from, 0) }))
    .sort((a, b) => b.seconds - a.seconds || a.name.localeCompare(b.name));
}

/** How long the longest incident lasted; undefined when there was none. */
export function longestSeconds(r: Replay, endSeconds: number): number | undefined {
  const lengths = r.incidents.map((i) => (instant(i.endedAt) ?? endSeconds) - (instant(i.startedAt) ?? endSeconds));
  return lengths.length === 0 ? undefined : Math.max(...lengths);
}

/** Whether nothing more comes of it. */
export const ended = (b: Backtest): boolean => b.state === "done" || b.state === "failed" || b.state === "cancelled";
