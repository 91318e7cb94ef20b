import { queryRange } from "@/api/prometheus";

/** What a table's spark lines show: a metric, and the labels that name a row in it. */
export interface SparkMetric {
  readonly metric: string;
  /** In the order of the key's parts: ["namespace", "pod"]. */
  readonly by: readonly string[];
  /** Which of `by` a query narrows by; the others are told apart by the answer's labels. */
  readonly narrow: string;
}

export type SparkValues = readonly (number | null)[];

const points = 24;
/** Rows that come into view within this time are asked for together. */
const gatherMillis = 60;
/** More names would make a query line that servers refuse. */
const maxNames = 150;

const separator = "\u0000";
export const sparkKey = (parts: readonly string[]): string => parts.join(separator);

const escape = (s: string): string => s.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** One query for many rows. */
export function sparkQuery(m: SparkMetric, cluster: string, names: readonly string[], stepSeconds: number): string {
  const pattern = JSON.stringify(names.map(escape).join("|"));
  return `max by (${m.by.join(", ")}) (avg_over_time(${m.metric}{cluster=${JSON.stringify(cluster)},${m.narrow}=~${pattern}}[${stepSeconds}s]))`;
}

interface Wanted {
  /** How many cells show it. */
  cells: number;
  /** When it was asked for last, in milliseconds; 0 for not yet. */
  asked: number;
  values: SparkValues | undefined;
}

/**
 * The spark lines of one column. Cells that are in view say so; those that have none yet are asked for in
 * one query, so that a table of 10,000 rows costs what its window shows.
 */
export class SparkStore {
  readonly #metric: SparkMetric;
  readonly #cluster: string;
  readonly #range: (nowSeconds: number) => { start: number; end: number };
  readonly #wanted = new Map<string, Wanted>();
  readonly #listeners = new Map<string, Set<() => void>>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #running = new AbortController();

  constructor(metric: SparkMetric, cluster: string, range: (nowSeconds: number) => { start: number; end: number }) {
    this.#metric = metric;
    this.#cluster = cluster;
    this.#range = range;
  }

  get(key: string): SparkValues | undefined {
    return this.#wanted.get(key)?.values;
  }

  /** A cell shows the row until the returned function is called. */
  subscribe(key: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(key) ?? new Set();
    listeners.add(listener);
    this.#listeners.set(key, listeners);
    const wanted = this.#wanted.get(key) ?? { cells: 0, asked: 0, values: undefined };
    wanted.cells++;
    this.#wanted.set(key, wanted);
    if (wanted.asked === 0) this.#gather();
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(key);
      wanted.cells--;
    };
  }

  /** Asks again for all that is in view, and forgets the rest. */
  refresh(): void {
    for (const [key, w] of this.#wanted) {
      if (w.cells === 0) this.#wanted.delete(key);
      else w.asked = 0;
    }
    this.#gather();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#running.abort();
    this.#running = new AbortController();
  }

  #gather(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#ask();
    }, gatherMillis);
  }

  async #ask(): Promise<void> {
    const now = Date.now();
    const keys = [...this.#wanted].filter(([, w]) => w.cells > 0 && w.asked === 0).slice(0, maxNames);
    if (keys.length === 0) return;
    for (const [, w] of keys) w.asked = now;
    const at = this.#metric.by.indexOf(this.#metric.narrow);
    const names = [...new Set(keys.map(([k]) => k.split(separator)[at] ?? ""))];
    const { start, end } = this.#range(Math.floor(now / 1000));
    const step = Math.max(30, Math.ceil((end - start) / points / 30) * 30);
    const first = Math.floor(start / step) * step;
    try {
      const answer = await queryRange(sparkQuery(this.#metric, this.#cluster, names, step), first, Math.floor(end / step) * step, step, this.#running.signal);
      const found = new Map(answer.series.map((s) => [sparkKey(this.#metric.by.map((l) => s.labels[l] ?? "")), s.values]));
      for (const [key, w] of keys) {
        w.values = found.get(key) ?? [];
        for (const l of this.#listeners.get(key) ?? []) l();
      }
    } catch {
      // The table's own numbers say that the server is away; the next refresh asks again.
    }
    if ([...this.#wanted.values()].some((w) => w.cells > 0 && w.asked === 0)) this.#gather();
  }
}

/** The line of the values, from 0 to the highest (or to `top`, when they stay below it). A gap is a gap, a lone point a dot. */
export function sparkPath(values: SparkValues, w: number, h: number, top?: number): string {
  const max = Math.max(top ?? 0, ...values.map((v) => v ?? 0)) || 1;
  const x = (i: number) => (values.length < 2 ? w / 2 : 1 + (i / (values.length - 1)) * (w - 2)).toFixed(1);
  const y = (v: number) => (h - 1.5 - (Math.max(0, v) / max) * (h - 3)).toFixed(1);
  let path = "";
  let open = false;
  values.forEach((v, i) => {
    if (v === null) {
      open = false;
      return;
    }
    const alone = !open && (values[i + 1] ?? null) === null;
    path += alone ? `M${x(i)},${y(v)}h0.1` : `${open ? "L" : "M"}${x(i)},${y(v)}`;
    open = true;
  });
  return path;
}
