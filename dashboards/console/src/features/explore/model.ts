import { quote } from "@/api/prometheus";
import type { Metric } from "@/api/types";
import { filterRows } from "@/ui/table";

/** As many queries as one page shows; the URL has each under a name of its own. */
export const slots = ["q", "q2", "q3", "q4", "q5"] as const;
export type Asked = Partial<Record<(typeof slots)[number], string>>;

/** The queries that a URL asks, in order; one empty where it asks none. */
export function queriesOf(search: Asked): string[] {
  const asked = slots.flatMap((s) => (search[s]?.trim() ? [search[s].trim()] : []));
  return asked.length === 0 ? [""] : asked;
}

/** The parameters of these queries; the rest of the names are cleared. */
export function toSearch(queries: readonly string[]): Record<(typeof slots)[number], string | undefined> {
  const kept = queries.map((q) => q.trim()).filter((q) => q !== "");
  return Object.fromEntries(slots.map((s, i) => [s, kept[i]])) as Record<(typeof slots)[number], string | undefined>;
}

/** What is asked of a metric first. */
export function firstQuery(m: Known): string {
  if (m.kind === "counter") return m.level === "raw" ? `topk(10, rate(${m.name}[5m]))` : `sum by (${m.level}) (increase(${m.name}[1h])) > 0`;
  return m.level === "cluster" || m.level === "node" ? m.name : `topk(10, ${m.name})`;
}

/** A metric that can be asked for: of the catalogue, or a family as a source gives it. */
export interface Known {
  readonly name: string;
  readonly title: string;
  readonly level: string;
  readonly unit: string;
  readonly kind: string;
  readonly help: string;
  /** Undefined: only the server's samples tell. */
  readonly labels?: readonly string[];
  readonly absent?: string;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly unit: string;
}

/** The catalogue, and behind it what else the server has samples of. */
export function known(catalogue: readonly Metric[], names: readonly string[], families: Readonly<Record<string, readonly Family[]>>): Known[] {
  const own = new Set(catalogue.map((m) => m.name));
  const raw = names.filter((n) => !own.has(n)).map((name): Known => {
    const family = (families[name] ?? families[name.replace(/_(bucket|count|sum|total)$/, "")])?.[0];
    return { name, title: name, level: "raw", unit: family?.unit ?? "", kind: family?.type ?? "unknown", help: family?.help ?? "" };
  });
  return [...catalogue, ...raw];
}

/** Those that have all the words, of one level or of all, by level; at most so many. */
export function found(all: readonly Known[], words: string, level: string, most: number): { levels: { level: string; metrics: Known[] }[]; more: number } {
  const matching = filterRows(level === "" ? all : all.filter((m) => m.level === level), (m) => `${m.name} ${m.title} ${m.level} ${m.help} ${m.unit}`, words);
  const levels = new Map<string, Known[]>();
  for (const m of matching.slice(0, most)) levels.set(m.level, [...(levels.get(m.level) ?? []), m]);
  return { levels: [...levels].map(([l, metrics]) => ({ level: l, metrics })), more: Math.max(0, matching.length - most) };
}

/** A metric narrowed to a value of a label. */
export const narrowed = (metric: string, label: string, value: string): string => `${metric}{${label}=${quote(value)}}`;

/** The queries asked before, the newest first. */
export const remembered = (before: readonly string[], query: string, most = 20): string[] => (query === "" ? [...before] : [query, ...before.filter((q) => q !== query)].slice(0, most));
