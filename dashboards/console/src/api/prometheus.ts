import { problemOf } from "./problem";
import { request } from "./request";

/** One series of an answer. Points stand on the query's grid; null where there is no value. */
export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly values: readonly (number | null)[];
}

export interface RangeResult {
  /** The grid, in seconds since the epoch. */
  readonly times: readonly number[];
  readonly stepSeconds: number;
  readonly series: readonly Series[];
  /** The coarsest buckets that any of it was read from; 0 or left out when all was read from samples. */
  readonly readSeconds?: number;
}

interface Matrix {
  readonly status: string;
  readonly data: {
    readonly result: readonly { readonly metric: Record<string, string>; readonly values: readonly [number, string][] }[];
  };
}

interface Vector {
  readonly data: {
    readonly result: readonly { readonly metric: Record<string, string>; readonly value: readonly [number, string] }[];
  };
}

/** A label's value inside a PromQL or LogsQL string. */
export const quote = (value: string): string => JSON.stringify(value);

/** {a="x", b="y"} of the parts that are given. */
export function selector(labels: Readonly<Record<string, string | undefined>>): string {
  const parts = Object.entries(labels).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${quote(value)}`]));
  return `{${parts.join(",")}}`;
}

/** Prometheus writes values as text, and NaN and infinities by name. Both are no values to draw. */
function value(text: string): number | null {
  const v = Number(text);
  return Number.isFinite(v) ? v : null;
}

/** Puts an answer's points on the grid of the query: a point that is not there is a gap. */
export function onGrid(
  result: Matrix["data"]["result"],
  start: number,
  end: number,
  stepSeconds: number,
): RangeResult {
  const length = Math.max(0, Math.round((end - start) / stepSeconds) + 1);
  const times = Array.from({ length }, (_, i) => start + i * stepSeconds);
  const series = result.map(({ metric, values }) => {
    const grid = new Array<number | null>(length).fill(null);
    for (const [at, text] of values) {
      const i = Math.round((at - start) / stepSeconds);
      if (i >= 0 && i < length) grid[i] = value(text);
    }
    return { labels: metric, values: grid };
  });
  return { times, stepSeconds, series };
}

export async function queryRange(
  query: string,
  start: number,
  end: number,
  stepSeconds: number,
  signal: AbortSignal,
): Promise<RangeResult> {
  const params = new URLSearchParams({ query, start: String(start), end: String(end), step: String(stepSeconds) });
  const response = await request(`/api/v1/query_range?${params}`, { signal });
  const body = (await response.json()) as Matrix;
  if (body.status !== "success") throw problemOf(response.status, JSON.stringify(body));
  return onGrid(body.data.result, start, end, stepSeconds);
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** At a time in seconds since the epoch; now when left out. */
export async function queryInstant(query: string, signal: AbortSignal, time?: number): Promise<Sample[]> {
  const response = await request(`/api/v1/query?${new URLSearchParams({ query, ...(time === undefined ? {} : { time: String(time) }) })}`, { signal });
  const body = (await response.json()) as Vector;
  return body.data.result.flatMap(({ metric, value: [, text] }) => {
    const v = value(text);
    return v === null ? [] : [{ labels: metric, value: v }];
  });
}
