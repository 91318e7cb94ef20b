import type { Row } from "@/api/logsql";
import { quote } from "@/api/prometheus";
import type { components } from "@/api/schema";
import { incidents as m } from "@/i18n/incidents";
import { policies } from "@/i18n/policies";
import type { Alert, Delivery, IncidentDetail, Metric } from "@/api/types";
import { causeWords } from "@/parts/incidents/model";
import { logsQuery, rowTime } from "@/parts/logs/model";
import { parts } from "@/parts/logs/terms";
import { duration, instant } from "@/ui/format";
import { deliveryState, typeWords } from "@/parts/deliveries/DeliveryTable";
import { type State, stateOf } from "@/ui/state";
import { seconds, type TimeRange, toRFC3339 } from "@/ui/time";

export type AlertCondition = Alert["conditions"][number];

/** The labels that name an alert's object and dimensions in the store. */
export function alertLabels(a: Alert): Record<string, string> {
  const { cluster, namespace, workload_type, workload, pod, container, node, service, volume, component, level } = a.object;
  const byLevel: Record<string, Record<string, string | undefined>> = {
    cluster: { cluster },
    component: { cluster, component },
    node: { cluster, node },
    service: { cluster, namespace, service },
    volume: { cluster, namespace, persistentvolumeclaim: volume },
    workload: { cluster, namespace, workload_type, workload },
    pod: { cluster, namespace, pod },
    container: { cluster, namespace, pod, container },
  };
  const named = byLevel[level] ?? { cluster, namespace };
  return Object.fromEntries(
    Object.entries({ ...named, ...a.dimensions }).filter((e): e is [string, string] => typeof e[1] === "string" && e[1] !== ""),
  );
}

/** An alert's object in words: "pod cart-7c9f in shop". */
export function objectWords(a: Alert): string {
  const o = a.object;
  const name = ({ cluster: o.cluster, node: o.node, workload: `${o.workload_type ?? ""}/${o.workload ?? ""}`, pod: o.pod, namespace: o.namespace, service: o.service, volume: o.volume, component: o.component, container: m.detail.containerOf(o.container ?? "", o.pod ?? "") } as Record<string, string | undefined>)[o.level];
  const dimensions = Object.values(a.dimensions);
  return m.detail.object(m.levels[o.level] ?? o.level, name ?? "", o.level === "namespace" ? "" : (o.namespace ?? ""), dimensions.join(", "));
}

/** The time around an incident: some before it began, as many periods as are judged at the least, and until it ended or now. */
export function evidenceRange(startedAt: string, endedAt: string | null | undefined, judgedSeconds = 0): TimeRange {
  const start = instant(startedAt);
  if (start === undefined) return { from: "now-1h", to: "now" };
  const end = instant(endedAt);
  const length = end === undefined ? 1800 : end - start;
  const margin = Math.max(600, length / 2, 2 * judgedSeconds);
  return { from: toRFC3339(Math.floor(start - margin)), to: end === undefined ? "now" : toRFC3339(Math.ceil(end + margin / 2)) };
}

/** The first alert of each policy: those of one policy show the same of other objects. */
export const firstOfEach = (alerts: readonly Alert[]): Alert[] => alerts.filter((a, i) => alerts.findIndex((b) => b.policy.name === a.policy.name) === i);

/** How long an alert's conditions look back, in seconds. */
export const judgedSeconds = (a: Alert): number => Math.max(0, ...a.conditions.map((c) => (seconds(c.period) ?? 0) * c.of));

/** The catalogue's entry of a condition. */
export const evidenceMetric = (c: AlertCondition, catalogue: readonly Metric[]): Metric | undefined => (c.metric === "" ? undefined : catalogue.find((entry) => entry.name === c.metric));

/** What a condition compares when it is not what a chart of its metric with such steps shows; empty when it is. */
export function comparedWords(c: AlertCondition, stepSeconds: number): string {
  const length = (text: string) => duration(seconds(text) ?? 0);
  if (c.change) return policies.say.change(length(c.change.against), c.change.as === "percent");
  if (c.forecast) return policies.say.forecast(length(c.forecast.within));
  return c.statistic === "increase" && seconds(c.period) !== stepSeconds ? m.detail.increase(length(c.period)) : "";
}

/** What an expression gives for one object, by the labels that name it: PromQL has no filter for labels of results. */
export function ofObject(promql: string, labels: Readonly<Record<string, string>>): string {
  const named = Object.entries(labels).filter(([name]) => name !== "cluster");
  if (named.length === 0) return promql;
  const text = (s: string) => quote(s.replaceAll("$", "$$$$"));
  const one = named.reduce((v, [name, value]) => `label_replace(${v}, ${quote(name)}, ${text(value)}, "", "")`, "vector(1)");
  return `(${promql}) and on (${named.map(([name]) => (/^[a-z_]\w*$/i.test(name) ? name : quote(name))).join(", ")}) ${one}`;
}

/** Distance of the points of what is counted for each period: the period, or so many of them that a chart has room. */
export const countStep = (period: number, rangeSeconds: number): number => period * Math.max(1, Math.ceil(rangeSeconds / period / 240));

/** LogsQL that counts what a condition counts about an object, for each step. An event counts as often as it says that it occurred. */
export function countQuery(a: Alert, query: string, what: "logs" | "events", stepSeconds: number): string {
  const found = logsQuery(alertLabels(a), "", what, parts(query).filter);
  const each = `by (_time:${stepSeconds}s)`;
  return what === "events" ? `${found} | stats ${each} count() rows, count(occurrences) told, sum(occurrences) n` : `${found} | stats ${each} count() n`;
}

/** Rows of a count on the grid of its steps, each at its step's end. What has no row was counted, and is none. */
export function counted(rows: readonly Row[], start: number, end: number, stepSeconds: number): { times: number[]; values: number[] } {
  const length = Math.max(0, Math.round((end - start) / stepSeconds));
  const values = new Array<number>(length).fill(0);
  const number = (text: string | undefined) => (Number.isFinite(Number(text)) ? Number(text) : 0);
  for (const row of rows) {
    const i = Math.round((rowTime(row) - start) / stepSeconds);
    if (i >= 0 && i < length) values[i] = number(row.n) + number(row.rows) - number(row.told);
  }
  return { times: values.map((_, i) => start + (i + 1) * stepSeconds), values };
}

export interface Step {
  readonly at: number;
  readonly state: State;
  readonly title: string;
  readonly text: string;
}

export type TimelineEntry = components["schemas"]["TimelineEntry"];

/** What happened, the newest first: it fired, who was told with what result, what people did, how it ended. */
export function timeline({ incident, alerts, deliveries }: IncidentDetail, entries: readonly TimelineEntry[] = []): Step[] {
  const steps: Step[] = [];
  for (const a of alerts) {
    const started = instant(a.started_at);
    const ended = instant(a.ended_at);
    if (started !== undefined) steps.push({ at: started, state: stateOf(a.severity), title: m.timeline.began(m.severity[a.severity] ?? a.severity, objectWords(a)), text: "" });
    if (ended !== undefined) steps.push({ at: ended, state: "ok", title: m.timeline.ended(objectWords(a)), text: causeWords(a.cause) });
  }
  for (const d of deliveries) {
    const at = instant(d.delivered_at) ?? instant(d.created_at);
    if (at !== undefined) steps.push({ at, state: deliveryState(d), title: deliveryTitle(d), text: d.last_error });
  }
  for (const e of entries) {
    const at = instant(e.at);
    // What alerts and notifications did is said above, with more.
    if (at === undefined || e.who === "") continue;
    steps.push({ at, state: "info", title: m.timeline.did(e.who, m.timeline.said[e.type] ?? e.type.replaceAll("_", " ")), text: e.text });
  }
  const ended = instant(incident.ended_at);
  if (ended !== undefined) steps.push({ at: ended, state: "ok", title: m.timeline.resolved, text: causeWords(incident.cause) });
  return steps.sort((a, b) => b.at - a.at);
}

/** What logs to look at for an alert: those of its object, as near as lines are labelled. */
export function logScope(a: Alert): Record<string, string> {
  const { cluster, namespace, workload_type, workload, pod, container, node, level } = a.object;
  const own: Record<string, Record<string, string | undefined>> = {
    node: { cluster, node },
    cluster: { cluster },
    pod: { cluster, namespace, pod },
    container: { cluster, namespace, pod, container },
  };
  return Object.fromEntries(Object.entries(own[level] ?? { cluster, namespace, workload_type, workload }).filter((e): e is [string, string] => typeof e[1] === "string" && e[1] !== ""));
}

/** A LogsQL filter for the events of an alert's object. */
export function eventFilter(a: Alert): string | undefined {
  const { level, node, pod, workload } = a.object;
  if (level === "cluster") return undefined;
  if (level === "node" && node) return `name:=${quote(node)}`;
  if (pod && level !== "workload") return `name:=${quote(pod)}`;
  return workload ? `name:=${quote(workload)} or name:~${quote(`^${workload.replace(/[.+*?^${}()|[\]\\]/g, "\\$&")}-`)}` : undefined;
}

const deliveryTitle = (d: Delivery): string => {
  const type = typeWords(d.type);
  switch (d.state) {
    case "delivered":
      return m.timeline.told(d.target, type);
    case "dead":
      return m.timeline.notTold(d.target, type);
    default:
      return m.timeline.beingTold(d.target, type);
  }
};

/** "since 09:05, for 12 min" or "from 09:05 to 09:17, 12 min long". */
export function whenWords(startedAt: string, endedAt: string | null | undefined, nowSeconds: number, clock: (s: number) => string): string {
  const start = instant(startedAt);
  if (start === undefined) return "";
  const end = instant(endedAt);
  return end === undefined
    ? m.detail.since(clock(start), duration(nowSeconds - start))
    : m.detail.fromTo(clock(start), clock(end), duration(end - start));
}
