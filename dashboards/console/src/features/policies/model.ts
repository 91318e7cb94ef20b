import type { Metric } from "@/api/types";
import { byUnit } from "@/ui/format";

// A policy in words. What this console does not understand yet is shown as it is, never left out.

type Dict = Readonly<Record<string, unknown>>;

export const isDict = (v: unknown): v is Dict => typeof v === "object" && v !== null && !Array.isArray(v);
export const dict = (v: unknown): Dict => (isDict(v) ? v : {});
export const list = (v: unknown): readonly unknown[] => (Array.isArray(v) ? v : []);
export const str = (v: unknown): string => (typeof v === "string" ? v : typeof v === "number" || typeof v === "boolean" ? String(v) : "");

/** Go's and Prometheus' durations as people say them: "1m" → "1 min". */
export const period = (v: unknown): string =>
  str(v).replace(/(\d+)([smhd])/g, (_, n: string, u: string) => `${n} ${{ s: "s", m: "min", h: "h", d: "d" }[u] ?? u} `).trim();

export const ops: Record<string, string> = { ">": "above", ">=": "at least", "<": "below", "<=": "at most", "==": "equal to", "!=": "not equal to" };
export const statistics: Record<string, string> = { avg: "average", max: "maximum", min: "minimum", sum: "sum", last: "last value", p50: "median", p95: "95th percentile", p99: "99th percentile", increase: "increase" };

/** "average of “CPU of limit” is above 80 % (warning), 95 % (critical) in 5 of 5 periods of 1 min" */
export function conditionWords(condition: unknown, catalogue: readonly Metric[]): string {
  const c = dict(condition);
  const metric = catalogue.find((m) => m.name === c.metric);
  const name = metric?.title ?? str(c.metric);
  const order = ["info", "warning", "critical"];
  const thresholds = Object.entries(dict(c.thresholds))
    .filter((e): e is [string, number] => typeof e[1] === "number")
    .sort(([a], [b]) => order.indexOf(a) - order.indexOf(b))
    .map(([severity, v]) => `${byUnit(v, metric?.unit ?? "")} (${severity})`);
  const where = Object.entries(dict(c.where)).map(([label, values]) => `${label} ${list(values).map(str).join(" or ")}`);
  return [
    statistics[str(c.statistic)] ?? str(c.statistic),
    `of “${name}”`,
    where.length > 0 ? `where ${where.join(" and ")}` : "",
    `is ${ops[str(c.op)] ?? str(c.op)}`,
    thresholds.join(", "),
    `in ${str(c.need) || "1"} of ${str(c.of) || "1"} periods of ${period(c.period)}`,
  ]
    .filter((p) => p !== "")
    .join(" ");
}

/** What a policy looks at: "any pod in shop on prod-*". */
export function subjectWords(spec: Dict): string {
  const objects = dict(spec.objects);
  const names = (v: unknown) => list(v).map(str).join(", ");
  const parts = [`any ${str(spec.level) || "object"}`];
  if (list(objects.names).length > 0) parts.push(`named ${names(objects.names)}`);
  if (list(objects.workloads).length > 0) parts.push(`of ${names(objects.workloads)}`);
  if (list(objects.namespaces).length > 0) parts.push(`in ${names(objects.namespaces)}`);
  if (str(objects.selector) !== "") parts.push(`with ${str(objects.selector)}`);
  const exclude = dict(objects.exclude);
  const excluded = Object.values(exclude).flatMap(list).map(str);
  if (excluded.length > 0) parts.push(`except ${excluded.join(", ")}`);
  const clusters = dict(spec.clusters);
  parts.push(list(clusters.names).length > 0 ? `on ${names(clusters.names)}` : "on all clusters");
  return parts.join(" ");
}

/** Whom it tells. */
export function targetWords(spec: Dict): string {
  const targets = list(dict(spec.notify).targets).map((t) => (isDict(t) ? str(t.name) : str(t)));
  return targets.length > 0 ? targets.join(", ") : "nobody by itself";
}

/** A policy as YAML, to read and to take to a file. */
export function yaml(value: unknown, indent = 0): string {
  const pad = "  ".repeat(indent);
  if (Array.isArray(value)) {
    if (value.every((v) => !isDict(v) && !Array.isArray(v))) return `[${value.map(scalar).join(", ")}]`;
    return `\n${value.map((v) => `${pad}- ${yaml(v, indent + 1).trimStart()}`).join("\n")}`;
  }
  if (isDict(value)) {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined && v !== null);
    if (entries.length === 0) return "{}";
    const text = entries
      .map(([k, v]) => {
        const inner = yaml(v, indent + 1);
        return `${pad}${k}:${inner.startsWith("\n") ? inner : ` ${inner}`}`;
      })
      .join("\n");
    return indent === 0 ? text : `\n${text}`;
  }
  return scalar(value);
}

function scalar(v: unknown): string {
  if (typeof v !== "string") return JSON.stringify(v);
  return /^[A-Za-z_][\w./-]*$/.test(v) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(v) ? v : JSON.stringify(v);
}
