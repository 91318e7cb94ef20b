import type { components } from "@/api/schema";
import { policies as m } from "@/i18n/policies";
import { quote } from "@/api/prometheus";
import type { Metric } from "@/api/types";
import { seconds } from "@/ui/time";

// A policy while it is being written. The draft is the server's own spec: what the form has no
// control for is kept as it is, and a text view of it loses nothing.

export type Spec = components["schemas"]["Spec"];
export type Condition = components["schemas"]["PolicyCondition"];
export type Severity = "info" | "warning" | "critical";

export const severities: readonly Severity[] = ["info", "warning", "critical"];

export interface Draft {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Of the policy that is changed; undefined for a new one. */
  readonly revision: number | undefined;
  readonly spec: Spec;
}

/** Seconds as Prometheus writes a duration, in the largest unit that fits. */
export function durationText(s: number): string {
  if (s > 0 && s % 86400 === 0) return `${s / 86400}d`;
  if (s > 0 && s % 3600 === 0) return `${s / 3600}h`;
  if (s > 0 && s % 60 === 0) return `${s / 60}m`;
  return `${s}s`;
}

/** The condition that a metric starts from: the catalogue's own, else an average of five minutes without a threshold. */
export function conditionOf(metric: Metric): Condition {
  const a = metric.alert;
  if (a) {
    return {
      metric: metric.name,
      statistic: a.statistic,
      period: durationText(a.period_seconds),
      op: a.op,
      thresholds: { [a.severity]: a.threshold },
      need: a.need,
      of: a.of,
    };
  }
  return { metric: metric.name, statistic: metric.statistic, period: "1m", op: ">", thresholds: {}, need: 5, of: 5 };
}

export function newDraft(metric: Metric, objects: Spec["objects"], clusters: readonly string[]): Draft {
  return {
    name: "",
    labels: {},
    revision: undefined,
    spec: {
      enabled: true,
      level: metric.level,
      ...(clusters.length > 0 ? { clusters: { names: [...clusters] } } : {}),
      ...(objects && Object.keys(objects).length > 0 ? { objects } : {}),
      conditions: [conditionOf(metric)],
    },
  };
}

/** Levels of policies that count log lines or events, and the objects by which they may be counted. */
export const lineGroups = {
  log: ["cluster", "namespace", "workload", "pod", "container", "node"],
  event: ["cluster", "namespace", "node"],
} as const satisfies Record<string, readonly NonNullable<Condition["groupBy"]>[]>;
export type LinesLevel = keyof typeof lineGroups;
export const isLinesLevel = (level: string | undefined): level is LinesLevel => level === "log" || level === "event";

/** The level of the objects that a policy judges: those by which lines are counted where it counts lines. */
export const objectLevel = (spec: Spec): string => (isLinesLevel(spec.level) ? (spec.conditions?.[0]?.groupBy ?? (spec.level === "log" ? "workload" : "namespace")) : spec.level);

/** More than ten in five minutes, which the form lets change at once. */
const linesCondition = (level: LinesLevel, query: string): Condition => ({ query, groupBy: level === "log" ? "workload" : "namespace", period: "5m", op: ">", thresholds: { warning: 10 }, need: 1, of: 1 });

export const newLinesDraft = (level: LinesLevel, query: string, objects: Spec["objects"], clusters: readonly string[]): Draft => ({
  name: "",
  labels: {},
  revision: undefined,
  spec: {
    enabled: true,
    level,
    ...(clusters.length > 0 ? { clusters: { names: [...clusters] } } : {}),
    ...(objects && Object.keys(objects).length > 0 ? { objects } : {}),
    conditions: [linesCondition(level, query)],
  },
});

/** The draft about lines or events, and no longer about a metric. */
export function withLines(draft: Draft, level: LinesLevel): Draft {
  const old = draft.spec.conditions?.[0];
  const query = isLinesLevel(draft.spec.level) ? "*" : (old?.query ?? "*");
  return withKept({ ...draft, spec: { ...draft.spec, level, conditions: [linesCondition(level, query)] } });
}

/** Counts by other objects, in all conditions: a policy judges objects of one level. */
export const withGroup = (draft: Draft, groupBy: NonNullable<Condition["groupBy"]>): Draft =>
  withKept({ ...draft, spec: { ...draft.spec, conditions: (draft.spec.conditions ?? []).map((c) => ({ ...c, groupBy })) } });

/** What of the selection the objects' level still has. */
function withKept(draft: Draft): Draft {
  const { objects, ...rest } = draft.spec;
  const kept = objects ? partsOf(objects, objectLevel(draft.spec)) : undefined;
  return { ...draft, spec: kept ? { ...rest, objects: kept } : rest };
}

/** The draft about another metric. Conditions on metrics of another level cannot stay. */
export function withMetric(draft: Draft, index: number, metric: Metric): Draft {
  const next = conditionOf(metric);
  const sameLevel = draft.spec.level === metric.level;
  const conditions = sameLevel ? (draft.spec.conditions ?? []).map((c, i) => (i === index ? next : c)) : [next];
  const spec: Spec = { ...draft.spec, level: metric.level, conditions };
  if (!sameLevel && spec.objects) {
    const objects = partsOf(spec.objects, metric.level);
    if (objects) spec.objects = objects;
    else delete spec.objects;
  }
  return { ...draft, spec };
}

/** Which ways of choosing objects a level has. */
export function selectable(level: string): { namespaces: boolean; workloads: boolean; names: boolean; selector: boolean } {
  const inNamespace = ["namespace", "workload", "service", "pod", "container", "volume"].includes(level);
  return {
    namespaces: inNamespace,
    workloads: ["pod", "container", "workload"].includes(level),
    names: level !== "cluster",
    selector: ["node", "workload", "pod", "container"].includes(level),
  };
}

function partsOf(objects: NonNullable<Spec["objects"]>, level: string): Spec["objects"] {
  const can = selectable(level);
  const kept = {
    ...(can.namespaces && objects.namespaces ? { namespaces: objects.namespaces } : {}),
    ...(can.workloads && objects.workloads ? { workloads: objects.workloads } : {}),
  };
  return Object.keys(kept).length > 0 ? kept : undefined;
}

/** A part of the selection set, or left out when it is empty. */
export function withObjects(draft: Draft, change: Partial<NonNullable<Spec["objects"]>>): Draft {
  const objects = Object.fromEntries(
    Object.entries({ ...draft.spec.objects, ...change } as Record<string, unknown>).filter(([, v]) => v !== undefined && v !== "" && !(Array.isArray(v) && v.length === 0)),
  );
  const spec: Spec = { ...draft.spec, objects };
  if (Object.keys(objects).length === 0) delete spec.objects;
  return { ...draft, spec };
}

export const withSpec = (draft: Draft, change: Partial<Spec>): Draft => ({ ...draft, spec: { ...draft.spec, ...change } });

export const withCondition = (draft: Draft, index: number, change: Partial<Condition>): Draft =>
  withSpec(draft, { conditions: (draft.spec.conditions ?? []).map((c, i) => (i === index ? { ...c, ...change } : c)) });

/** A severity's threshold, or its recovery; undefined takes it away. */
export function withThreshold(c: Condition, key: "thresholds" | "recovery", severity: Severity, value: number | undefined): Condition {
  const { [severity]: _, ...rest } = c[key] ?? {};
  const next = value === undefined ? rest : { ...rest, [severity]: value };
  if (key === "recovery" && Object.keys(next).length === 0) {
    const { recovery: __, ...without } = c;
    return without;
  }
  return { ...c, [key]: next };
}

const binary: Record<string, number> = { k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };
const decimal: Record<string, number> = { k: 1e3, m: 1e6, g: 1e9, t: 1e12 };

/**
 * A threshold as people write it: "90", "90 %", "512Mi", "1.5 GiB", "20 MB/s", "250m" of cores. Undefined when it
 * cannot be read. Bytes of memory are in powers of 1024 whether or not an i is written, as the console shows them.
 */
export function parseQuantity(text: string, unit: string): number | undefined {
  const match = /^\s*(-?\d+(?:[.,]\d+)?)\s*([a-z%/]*)\s*$/i.exec(text);
  if (!match) return undefined;
  const n = Number((match[1] ?? "").replace(",", "."));
  const suffix = (match[2] ?? "").toLowerCase();
  if (!Number.isFinite(n)) return undefined;
  if (suffix === "") return n;
  if (suffix === "%") return unit === "%" ? n : undefined;
  if (unit === "cores") return suffix === "m" ? n / 1000 : suffix === "cores" || suffix === "core" ? n : undefined;
  if (unit === "B" || unit === "B/s") {
    const size = /^([kmgt]?)(i?)b?(?:\/s)?$/.exec(suffix);
    if (!size) return undefined;
    if (size[1] === "") return n;
    return n * ((unit === "B" || size[2] === "i" ? binary : decimal)[size[1] ?? ""] ?? 1);
  }
  return undefined;
}

/** A threshold to be edited: short where it is exact, in base units otherwise. */
export function quantityText(value: number | null | undefined, unit: string): string {
  if (value === null || value === undefined) return "";
  if (unit === "B" || unit === "B/s") {
    const base = unit === "B" ? 1024 : 1000;
    for (const [i, s] of ["T", "G", "M", "k"].entries()) {
      const scale = base ** (4 - i);
      if (value !== 0 && (value * 100) % scale === 0) return `${value / scale} ${unit === "B" ? `${s.toUpperCase()}i` : s}${unit}`;
    }
  }
  return String(value);
}

/** A glob of ours (* any text, ? one character) as a regular expression of PromQL, which is anchored. */
export const globRegex = (glob: string): string => glob.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");

const matcher = (label: string, globs: readonly string[] | null | undefined, not = false): string[] => {
  if (!globs || globs.length === 0) return [];
  const [one] = globs;
  if (globs.length === 1 && one !== undefined && !/[*?]/.test(one)) return [`${label}${not ? "!=" : "="}${quote(one)}`];
  return [`${label}${not ? "!~" : "=~"}${quote(globs.map(globRegex).join("|"))}`];
};

/** The label that names an object of a level, the most specific. */
export const nameLabel = (level: string): string => (level === "cluster" ? "cluster" : level);

/** Labels that tell objects of a level apart. */
export function identity(level: string, metric: Metric): string[] {
  const by: Record<string, string[]> = {
    cluster: ["cluster"],
    node: ["cluster", "node"],
    namespace: ["cluster", "namespace"],
    workload: ["cluster", "namespace", "workload_type", "workload"],
    service: ["cluster", "namespace", "service"],
    pod: ["cluster", "namespace", "pod"],
    container: ["cluster", "namespace", "pod", "container"],
  };
  return [...(by[level] ?? metric.labels.filter((l) => l !== "node")), ...metric.dimensions.filter((d) => !(by[level] ?? []).includes(d))];
}

/** The series that a condition looks at, one set of matchers for each workload pattern. */
function matchers(spec: Spec, condition: Condition, level: string): string[][] {
  const o = spec.objects ?? {};
  const x = o.exclude ?? {};
  const common = [
    ...matcher("cluster", spec.clusters?.names),
    ...matcher("namespace", o.namespaces),
    ...(level === "cluster" ? [] : matcher(nameLabel(level), o.names)),
    ...matcher("namespace", x.namespaces, true),
    ...(level === "cluster" ? [] : matcher(nameLabel(level), x.names, true)),
    ...Object.entries(condition.where ?? {}).flatMap(([label, globs]) => matcher(label, globs)),
  ];
  const workloads = o.workloads ?? [];
  if (workloads.length === 0) return [common];
  return workloads.map((w) => {
    const [type = "*", name = "*"] = w.split("/");
    return [...common, ...(type === "*" ? [] : matcher("workload_type", [type])), ...matcher("workload", [name])];
  });
}

const overTime: Record<string, string> = { avg: "avg_over_time", max: "max_over_time", min: "min_over_time", sum: "sum_over_time", last: "last_over_time" };
const quantiles: Record<string, string> = { p50: "0.5", p95: "0.95", p99: "0.99" };

/**
 * PromQL of a condition's value for each object, with further matchers. Label selectors live in the inventory, which
 * PromQL does not see; where a policy has one, the preview says so.
 */
export function conditionQuery(spec: Spec, condition: Condition, metric: Metric, further: readonly string[] = []): string {
  const period = condition.period === "" ? "1m" : condition.period;
  const statistic = condition.statistic ?? metric.statistic;
  const of = (series: string): string => {
    const q = quantiles[statistic];
    if (q !== undefined) return `quantile_over_time(${q}, ${series}[${period}])`;
    if (statistic === "increase") {
      const base = durationText(Math.max(seconds(period) ?? 60, 300));
      return `clamp_min(last_over_time(${series}[${period}]) - last_over_time(${series}[${base}] offset ${period}), 0)`;
    }
    return `${overTime[statistic] ?? "avg_over_time"}(${series}[${period}])`;
  };
  const parts = matchers(spec, condition, spec.level).map((own) => of(`${metric.name}{${[...own, ...further].join(",")}}`));
  // eslint-disable-next-line no-restricted-syntax -- PromQL
  return `max by (${identity(spec.level, metric).join(", ")}) (${parts.join(" or ")})`;
}

const ops: Record<string, (a: number, b: number) => boolean> = {
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

/** Which severity a value is bad at; undefined for a good one. */
export function severityOf(condition: Condition, value: number): Severity | undefined {
  const bad = ops[condition.op];
  if (!bad) return undefined;
  return [...severities].reverse().find((s) => {
    const t = condition.thresholds[s];
    return t !== undefined && bad(value, t);
  });
}

/** Whether worse means lower. */
export const lowIsBad = (c: Condition): boolean => c.op === "<" || c.op === "<=" || (c.op === "==" && Object.values(c.thresholds).every((t) => t === 0));

/** A name that a policy could have: "pod-cpu-of-limit". */
export function suggestName(spec: Spec, metric: Metric | undefined, taken: readonly string[]): string {
  const o = spec.objects ?? {};
  const place = o.workloads?.[0]?.split("/")[1] ?? o.namespaces?.[0];
  const words = [place, spec.level, metric?.title ?? spec.conditions?.[0]?.query?.replace(/\b[\w.]+:[=~<>]*/g, " ").split(" ").slice(0, 6).join(" ")].filter(Boolean).join(" ");
  const base = words.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 56) || "policy";
  if (!taken.includes(base)) return base;
  for (let i = 2; ; i++) if (!taken.includes(`${base}-${i}`)) return `${base}-${i}`;
}

/** What is wrong with a draft before it is sent; the server has the last word. */
export function draftProblems(draft: Draft): string[] {
  const found: string[] = [];
  if (!/^[a-z0-9-]{1,63}$/.test(draft.name)) found.push(m.edit.nameRule);
  for (const c of draft.spec.conditions ?? []) {
    if (c.expr === undefined && Object.keys(c.thresholds).length === 0) found.push(m.edit.needsThreshold);
    if (isLinesLevel(draft.spec.level) && (c.query ?? "").trim() === "") found.push(m.edit.needsQuery);
    if (seconds(c.period) === undefined) found.push(m.edit.badPeriod(c.period));
  }
  return [...new Set(found)];
}

/** The whole object, as it is sent and as text shows it. */
export const toPolicy = (draft: Draft): components["schemas"]["Policy"] => ({
  apiVersion: "crowsnest.dev/v1",
  kind: "Policy",
  metadata: {
    name: draft.name,
    ...(Object.keys(draft.labels).length > 0 ? { labels: draft.labels } : {}),
    ...(draft.revision === undefined ? {} : { revision: draft.revision }),
  },
  spec: draft.spec,
});
