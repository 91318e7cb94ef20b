import { type RangeResult, selector, type Series } from "@/api/prometheus";
import type { Metric } from "@/api/types";
import { charts as m } from "@/i18n/charts";
import { duration } from "@/ui/format";

/** What a panel draws: metrics of one group, which share an axis. */
export interface Panel {
  readonly group: string;
  readonly title: string;
  readonly unit: string;
  readonly metrics: readonly Metric[];
  /** Of metrics whose values have another unit with each value of a dimension: the one that is drawn. */
  readonly only?: ObjectLabels;
}

// A metric of resources counts cores in one series and bytes in the next: each resource has an axis of its own.
const resources = [
  { resource: "cpu", title: m.cpuCapacity, unit: "cores" },
  { resource: "memory", title: m.memoryCapacity, unit: "B" },
] as const;
const isOfResources = (m: Metric): boolean => m.unit === "count" && m.dimensions.includes("resource");

/** The unit of a metric's series that `only` picks. */
export const resourceUnit = (m: Metric, only: ObjectLabels): string => (isOfResources(m) ? resources.find((r) => r.resource === only.resource)?.unit : undefined) ?? m.unit;

const capitalised = (s: string): string => s.charAt(0).toUpperCase() + s.slice(1).replaceAll("_", " ");

/** Which groups of a level to draw. */
export interface Choice {
  /** These and no others, in this order. */
  readonly only?: readonly string[];
  /** These before the others. */
  readonly first?: readonly string[];
  readonly without?: readonly string[];
}

/** The panels of a level: those that come first, then in the catalogue's order. Metrics of one group with different units are panels of their own. */
export function panels(catalogue: readonly Metric[], level: string, choice: Choice = {}): Panel[] {
  const { only, first = [], without = [] } = choice;
  const found = new Map<string, Metric[]>();
  const ofResources: Metric[] = [];
  for (const x of catalogue) {
    if (x.level !== level || without.includes(x.chart.group) || (only && !only.includes(x.chart.group))) continue;
    if (isOfResources(x)) {
      ofResources.push(x);
      continue;
    }
    const key = `${x.chart.group} ${x.unit}`;
    found.set(key, [...(found.get(key) ?? []), x]);
  }
  const all = [...found.values()].flatMap((metrics): Panel[] => {
    const [one] = metrics;
    if (!one) return [];
    const group = one.chart.group;
    const title = metrics.length === 1 ? one.title : (m.groups[group] ?? capitalised(group));
    return [{ group, title, unit: one.unit, metrics }];
  });
  if (ofResources.length > 0) {
    for (const { resource, title, unit } of resources) all.push({ group: `capacity ${resource}`, title, unit, metrics: ofResources, only: { resource } });
  }
  const order = [...first, ...(only ?? [])];
  const place = (p: Panel) => (order.includes(p.group) ? order.indexOf(p.group) : order.length);
  return all.sort((a, b) => place(a) - place(b));
}

/** The labels that name the object of a chart; further ones split it into series. */
export type ObjectLabels = Readonly<Record<string, string>>;

/**
 * The PromQL of a metric's chart. Each point covers exactly the step before it, by the statistic that
 * the catalogue gives the metric, so that a gap in the data is a gap in the chart and a spike between
 * two points is not lost by chance. Labels that change over an object's life (a pod gets its node)
 * do not split it: only its dimensions and `by` do.
 */
export function promql(metric: Metric, object: ObjectLabels, stepSeconds: number, by: readonly string[] = [], only: ObjectLabels = {}): string {
  const { series, split, statistic } = asked(metric, object, by, only);
  const step = `${stepSeconds}s`;
  const grouped = (expr: string) => `max by (${split.join(", ")}) (${expr})`;
  if (statistic === "increase") {
    // Exact and whole, where increase() extrapolates. The base may be up to 5 min older: a gap loses no restart.
    const base = `${Math.max(stepSeconds, 300)}s`;
    return grouped(`clamp_min(last_over_time(${series}[${step}]) - last_over_time(${series}[${base}] offset ${step}), 0)`);
  }
  return grouped(`${statistic}_over_time(${series}[${step}])`);
}

/** What a metric's chart asks for, of the server's own charts or in PromQL. */
export function asked(metric: Metric, object: ObjectLabels, by: readonly string[] = [], only: ObjectLabels = {}): { series: string; split: string[]; statistic: ChartStatistic } {
  // Of a yes or no the worst counts: a node that was not ready for a minute must show in a chart of a day.
  const statistic = metric.kind === "counter" ? "increase" : metric.unit === "0/1" ? "min" : (overTime[metric.statistic] ?? "avg");
  return { series: `${metric.name}${selector({ ...object, ...only })}`, split: [...metric.dimensions.filter((d) => !(d in only)), ...by], statistic };
}

export type ChartStatistic = "avg" | "max" | "min" | "last" | "sum" | "increase";

const overTime: Partial<Record<string, ChartStatistic>> = { avg: "avg", max: "max", min: "min", last: "last", sum: "sum" };

/** What a chart's point stands for: "average of each 30 s"; on long ranges also what it was read from. */
export function resolutionWords(metric: Metric, stepSeconds: number, results: readonly (RangeResult | undefined)[]): string {
  const statistic = metric.kind === "counter" ? "increase" : metric.unit === "0/1" ? "min" : metric.statistic;
  const each = m.each(m.statistics[statistic] ?? m.statistics.avg ?? "", duration(stepSeconds));
  const read = Math.max(0, ...results.map((r) => r?.readSeconds ?? 0));
  return read > 0 ? m.readFrom(each, duration(read)) : each;
}

/** How a panel's values are drawn: what is counted in a step is a bar, a state holds until the next. */
export type Drawing = "line" | "steps" | "bars";

export interface Line {
  readonly name: string;
  readonly metric: string;
  readonly values: readonly (number | null)[];
  /** Of an earlier time, to be held against the line at that place. */
  readonly past?: { readonly of: number; readonly when: string };
}

/**
 * Values of a time that was measured more seldom than the grid has steps, drawn through: else every one of them
 * would stand alone. What is further apart than most of them are is a gap and stays one.
 */
export function drawnThrough(values: readonly (number | null)[]): (number | null)[] {
  const at = values.flatMap((v, i) => (v === null ? [] : [i]));
  const apart = at.slice(1).map((i, k) => i - (at[k] ?? i));
  const usual = [...apart].sort((a, b) => a - b)[Math.floor(apart.length / 2)] ?? 1;
  const out = [...values];
  apart.forEach((steps, k) => {
    const from = at[k] ?? 0;
    const [a, b] = [values[from] ?? 0, values[from + steps] ?? 0];
    if (steps <= usual) for (let i = 1; i < steps; i++) out[from + i] = a + ((b - a) * i) / steps;
  });
  return out;
}

/**
 * The lines with those of an earlier time behind them, moved onto the same grid. Only lines that are there today are
 * held against: what has ended since has nothing to be compared with.
 */
export function withPast(now: { readonly times: readonly number[]; readonly lines: readonly Line[] }, past: { readonly times: readonly number[]; readonly lines: readonly Line[] }, back: number, when: string, drawing: Drawing): Line[] {
  const at = new Map(past.times.map((t, i) => [t + back, i]));
  return [
    ...now.lines,
    ...now.lines.flatMap((l, of): Line[] => {
      const before = past.lines.find((p) => p.name === l.name && p.metric === l.metric);
      if (!before) return [];
      const values = now.times.map((t) => before.values[at.get(t) ?? -1] ?? null);
      return [{ name: `${l.name}, ${when}`, metric: l.metric, past: { of, when }, values: drawing === "line" ? drawnThrough(values) : values }];
    }),
  ];
}

/** A series' name in a legend: its dimensions' values, or the metric's title, or both when both differ. */
function lineName(metric: Metric, series: Series, whole: boolean): string {
  const values = Object.entries(series.labels)
    .filter(([name]) => name !== "__name__")
    .map(([, v]) => v)
    .filter((v) => v !== "");
  if (values.length === 0) return metric.title;
  // What tells lines apart comes first: a narrow legend cuts the end off.
  return whole ? `${values.join(" ")} ${metric.title}` : values.join(" ");
}

/** The order of a legend: each line with those of earlier times below it. */
export const legendOrder = (lines: readonly Line[]): number[] =>
  lines.flatMap((l, i) => (l.past ? [] : [i, ...lines.flatMap((p, k) => (p.past?.of === i ? [k] : []))]));

/** Lines by what tells them apart: the dimensions' values alone where no two lines share them. */
function named(all: readonly (Line & { readonly short: string })[]): Line[] {
  const alone = new Set(all.map((l) => l.short)).size === all.length;
  return all.map(({ short, ...line }) => (alone ? { ...line, name: short } : line));
}

/** The lines of a panel on one grid; the most interesting first when there are more than a chart can show. */
export function lines(
  panel: Panel,
  results: readonly (RangeResult | undefined)[],
  limit: number,
): { times: readonly number[]; lines: Line[]; left: number; compared?: string | undefined } {
  const times = results.find((r) => r !== undefined)?.times ?? [];
  const all = panel.metrics.flatMap((metric, i) => {
    const result = results[i];
    // During a change of range, one metric's answer may still be the old one.
    if (result?.times.length !== times.length || result.times[0] !== times[0]) return [];
    return result.series.map((s) => ({ name: lineName(metric, s, true), short: lineName(metric, s, false), metric: metric.name, values: s.values }));
  });
  const hasValue = named(all.filter((l) => l.values.some((v) => v !== null)));
  if (hasValue.length <= limit) return { times, lines: hasValue, left: 0 };
  const byPeak = [...hasValue].sort((a, b) => (statistics(b.values).max ?? 0) - (statistics(a.values).max ?? 0));
  return { times, lines: byPeak.slice(0, limit), left: hasValue.length - limit };
}

/**
 * Names without the beginning that all of them share, up to a dash: what is left tells them apart in a
 * narrow legend.
 */
export function shortNames(names: readonly string[]): string[] {
  const [first, ...rest] = names;
  if (first === undefined || rest.length === 0) return [...names];
  let shared = first.length;
  for (const n of rest) {
    let i = 0;
    while (i < shared && i < n.length && n.charAt(i) === first.charAt(i)) i++;
    shared = i;
  }
  const cut = first.slice(0, shared).lastIndexOf("-") + 1;
  // What fits whole is read whole: "worker-09" says more than "…09".
  return cut < 4 || Math.max(...names.map((n) => n.length)) <= 16 ? [...names] : names.map((n) => `…${n.slice(cut)}`);
}

export interface Statistics {
  readonly min: number | null;
  readonly avg: number | null;
  readonly max: number | null;
  readonly last: number | null;
}

/** Statistics of the points that have a value; `last` is the newest of them. */
export function statistics(values: readonly (number | null)[]): Statistics {
  let min: number | null = null;
  let max: number | null = null;
  let last: number | null = null;
  let sum = 0;
  let n = 0;
  for (const v of values) {
    if (v === null) continue;
    if (min === null || v < min) min = v;
    if (max === null || v > max) max = v;
    last = v;
    sum += v;
    n++;
  }
  return { min, max, last, avg: n === 0 ? null : sum / n };
}

/** Indices of points that have no neighbour: a line does not show them, so they are drawn as dots. */
export function isolated(values: readonly (number | null | undefined)[]): number[] {
  const has = (i: number) => values[i] !== null && values[i] !== undefined;
  return values.flatMap((_, i) => (has(i) && !has(i - 1) && !has(i + 1) ? [i] : []));
}

/** Top of an axis that starts at 0: the catalogue's, unless the data goes beyond. */
export function axisTop(dataMax: number | null, catalogueMax: number): number {
  const max = dataMax ?? 0;
  if (catalogueMax > 0 && max <= catalogueMax) return catalogueMax;
  return max <= 0 ? 1 : max * 1.08;
}

/** Distances of an axis' marks by unit: bytes in powers of 1024, everything else in ones, twos and fives. */
export function axisSteps(unit: string): number[] {
  if (unit === "B") {
    return Array.from({ length: 6 }, (_, power) => [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((m) => m * 1024 ** power)).flat();
  }
  const from = unit === "count" || unit === "0/1" ? 0 : -4;
  return Array.from({ length: 16 }, (_, i) => [1, 2, 5].map((m) => Number((m * 10 ** (from + i)).toPrecision(1)))).flat();
}

/** CSV of a grid of lines: a time and a column for each. */
export function csv(times: readonly number[], lines: readonly { readonly name: string; readonly values: readonly (number | null)[] }[]): string {
  const cell = (s: string) => (/[",\n\r]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s);
  const head = ["time", ...lines.map((l) => cell(l.name))].join(",");
  return [head, ...times.map((t, i) => [new Date(t * 1000).toISOString(), ...lines.map((l) => l.values[i] ?? "")].join(","))].join("\n") + "\n";
}
