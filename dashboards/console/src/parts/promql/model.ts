import type { RangeResult } from "@/api/prometheus";
import type { Metric } from "@/api/types";
import type { Line } from "@/parts/charts/model";
import { statistics } from "@/parts/charts/model";

type Labels = Readonly<Record<string, string>>;

/** A series as Prometheus writes it: name{a="x", b="y"}. */
export function seriesName(labels: Labels): string {
  const { __name__: name = "", ...rest } = labels;
  const parts = Object.entries(rest).map(([k, v]) => `${k}=${JSON.stringify(v)}`);
  return parts.length === 0 && name !== "" ? name : `${name}{${parts.join(", ")}}`;
}

/** Labels whose values differ between series: the columns worth reading first. */
export function differing(all: readonly Labels[]): string[] {
  const names = [...new Set(all.flatMap((l) => Object.keys(l)))];
  return names.filter((n) => new Set(all.map((l) => l[n])).size > 1).sort();
}

/** Lines of an answer, named by what tells them apart; those with the highest peaks where there are too many. */
export function linesOf(result: RangeResult, limit: number): { lines: Line[]; left: number } {
  const names = differing(result.series.map((s) => s.labels));
  const all = result.series
    .map((s) => ({
      name: names.length === 0 ? seriesName(s.labels) : names.map((n) => s.labels[n] ?? "").filter((v) => v !== "").join(" ") || seriesName(s.labels),
      metric: seriesName(s.labels),
      values: s.values,
      peak: statistics(s.values).max ?? Number.NEGATIVE_INFINITY,
    }))
    .sort((a, b) => b.peak - a.peak);
  return { lines: all.slice(0, limit).map(({ name, metric, values }) => ({ name, metric, values })), left: Math.max(0, all.length - limit) };
}

/** The unit of an expression that is about one metric of the catalogue alone; empty where it cannot be known. */
export function unitOf(query: string, catalogue: readonly Metric[]): string {
  const named = catalogue.filter((m) => new RegExp(`\\b${m.name}\\b`).test(query));
  const units = [...new Set(named.map((m) => m.unit))];
  // What counts or divides is no longer in the metric's own unit.
  return units.length === 1 && !/\b(count|count_values|rate|irate|increase|changes|resets|group|stdvar)\b|[/*]/.test(query) ? (units[0] ?? "") : "";
}
