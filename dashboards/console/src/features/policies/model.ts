import type { Metric } from "@/api/types";
import { policies as m } from "@/i18n/policies";
import { exactly } from "@/ui/format";

// A policy in words. What this console does not understand yet is shown as it is, never left out.

type Dict = Readonly<Record<string, unknown>>;

export const isDict = (v: unknown): v is Dict => typeof v === "object" && v !== null && !Array.isArray(v);
export const dict = (v: unknown): Dict => (isDict(v) ? v : {});
export const list = (v: unknown): readonly unknown[] => (Array.isArray(v) ? v : []);
export const str = (v: unknown): string => (typeof v === "string" ? v : typeof v === "number" || typeof v === "boolean" ? String(v) : "");

/** Go's and Prometheus' durations as people say them: "1m" → "1 min". */
export const period = (v: unknown): string => str(v).replace(/(\d+)([smhdw])/g, (_, n: string, u: string) => `${m.period(n, u)} `).trim();

export const { ops, statistics } = m;

const order = ["info", "warning", "critical"];

/** "average of “CPU of limit” is above 80 % (warning), 95 % (critical) in 5 of 5 periods of 1 min" */
export function conditionWords(condition: unknown, catalogue: readonly Metric[], level = ""): string {
  const c = dict(condition);
  const metric = catalogue.find((entry) => entry.name === c.metric);
  const expr = str(c.expr);
  const query = str(c.query);
  if (expr !== "" && str(c.op) === "") return m.say.join([m.say.exists(expr, m.severity[str(c.severity) || "warning"] ?? str(c.severity)), "", repeats(c)].filter((p) => p !== ""));
  const thresholds = Object.entries(dict(c.thresholds))
    .filter((e): e is [string, number] => typeof e[1] === "number")
    .sort(([a], [b]) => order.indexOf(a) - order.indexOf(b))
    .map(([severity, v]) => m.say.threshold(exactly(v, metric?.unit ?? ""), m.severity[severity] ?? severity));
  const where = Object.entries(dict(c.where)).map(([label, values]) => m.say.where(label, list(values).map(str)));
  const change = dict(c.change);
  const forecast = dict(c.forecast);
  const subject =
    expr !== ""
      ? [m.say.expr(expr)]
      : query !== ""
        ? [level === "event" ? m.say.events(query) : m.say.lines(query)]
        : [m.statistics[str(c.statistic) || (metric?.statistic ?? "")] ?? str(c.statistic), m.say.metric(metric?.title ?? str(c.metric))];
  const rest = [
    where.length > 0 ? m.say.whereAll(where) : "",
    str(change.against) === "" ? "" : m.say.change(period(change.against), change.as === "percent"),
    str(forecast.within) === "" ? "" : m.say.forecast(period(forecast.within)),
    m.say.is(m.ops[str(c.op)] ?? str(c.op)),
    thresholds.join(", "),
    repeats(c),
  ];
  // A subject of one part has no statistic of something.
  return m.say.join([...(subject.length === 1 ? [...subject, ""] : subject), ...rest].filter((p, i) => p !== "" || i === 1)).replaceAll("  ", " ");
}

const repeats = (c: Dict): string => (str(c.of) === "" && str(c.need) === "" && str(c.period) === "" ? "" : m.say.periods(str(c.need) || str(c.of) || "1", str(c.of) || str(c.need) || "1", period(c.period)));

/** All conditions of a policy, joined as they combine. */
export const conditionsWords = (spec: Dict, catalogue: readonly Metric[]): string =>
  list(spec.conditions)
    .map((c) => conditionWords(c, catalogue, str(spec.level)))
    .join(str(spec.combine) === "any" ? m.say.or : m.say.and);

/** What a policy looks at: "any pod in shop on prod-*". */
export function subjectWords(spec: Dict): string {
  const objects = dict(spec.objects);
  const names = (v: unknown) => list(v).map(str).join(", ");
  const parts = [m.say.any(str(spec.level))];
  if (list(objects.names).length > 0) parts.push(m.say.named(names(objects.names)));
  if (list(objects.workloads).length > 0) parts.push(m.say.of(names(objects.workloads)));
  if (list(objects.namespaces).length > 0) parts.push(m.say.in(names(objects.namespaces)));
  if (str(objects.selector) !== "") parts.push(m.say.with(str(objects.selector)));
  const excluded = Object.values(dict(objects.exclude)).flatMap((v) => (typeof v === "string" ? [v] : list(v))).map(str);
  if (excluded.length > 0) parts.push(m.say.except(excluded.join(", ")));
  const clusters = dict(spec.clusters);
  parts.push(list(clusters.names).length > 0 ? m.say.on(names(clusters.names)) : m.say.everywhere);
  return parts.join(" ");
}

/** Whom it tells. */
export function targetWords(spec: Dict): string {
  const targets = list(dict(spec.notify).targets).map((t) => (isDict(t) ? str(t.name) : str(t)));
  return targets.length > 0 ? targets.join(", ") : m.say.byRoutes;
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
