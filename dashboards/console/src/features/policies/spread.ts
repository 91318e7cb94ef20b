import type { Sample } from "@/api/prometheus";
import type { Condition } from "./draft";

/** How values are put into bins: all bins of one width, the last one holding what is above, too. */
export interface Bins {
  readonly width: number;
  readonly top: number;
}

const nice = [1, 2, 2.5, 5, 10];

/** Some forty bins that reach well beyond the thresholds, and to the highest value where that is near. */
export function binsFor(thresholds: readonly number[], unitMax: number | undefined, highest: number | undefined): Bins {
  const most = Math.max(...thresholds.map(Math.abs), 0);
  const wanted = most > 0 ? (unitMax !== undefined && unitMax >= most ? unitMax : most * 1.5) : (highest ?? 1);
  const end = Math.max(unitMax ?? 0, highest !== undefined && highest < most * 3 ? Math.max(highest, wanted) : wanted, 1e-9);
  const raw = end / 40;
  const scale = 10 ** Math.floor(Math.log10(raw));
  const width = (nice.find((n) => n * scale >= raw) ?? 10) * scale;
  return { width, top: Math.ceil(end / width) * width };
}

/** How often each bin's value came, over all objects and hours. */
export const spreadQuery = (value: string, bins: Bins): string => `count_values("bin", clamp_max(round(${value}, ${bins.width}), ${bins.top}))`;

export interface Bin {
  readonly from: number;
  readonly to: number;
  readonly n: number;
}

/** The counts of all points, by bin, from the lowest that has one. */
export function binned(counts: ReadonlyMap<number, number>, bins: Bins): Bin[] {
  if (counts.size === 0) return [];
  const steps = [...counts.keys()].map((v) => Math.round(v / bins.width));
  const first = Math.min(0, ...steps);
  const last = Math.max(...steps, Math.round(bins.top / bins.width));
  return Array.from({ length: Math.min(400, last - first + 1) }, (_, i) => {
    const at = first + i;
    const n = [...counts].reduce((sum, [v, c]) => (Math.round(v / bins.width) === at ? sum + c : sum), 0);
    return { from: (at - 0.5) * bins.width, to: (at + 0.5) * bins.width, n };
  });
}

const ops: Record<string, (a: number, b: number) => boolean> = { ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b, "==": (a, b) => a === b, "!=": (a, b) => a !== b };

/** The share of values beyond a threshold, by the middle of their bins. */
export function beyond(all: readonly Bin[], op: string, threshold: number): number {
  const total = all.reduce((sum, b) => sum + b.n, 0);
  const test = ops[op];
  if (total === 0 || !test) return 0;
  return all.reduce((sum, b) => (test((b.from + b.to) / 2, threshold) ? sum + b.n : sum), 0) / total;
}

/** The highest value of an instant's answer. */
export const highestOf = (samples: readonly Sample[] | undefined): number | undefined => (samples === undefined || samples.length === 0 ? undefined : Math.max(...samples.map((s) => s.value)));

export const givenThresholds = (c: Condition): number[] => Object.values(c.thresholds).filter((t): t is number => typeof t === "number");
