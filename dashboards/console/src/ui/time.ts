import { ui as m } from "@/i18n/ui";

/** A time range as it stands in the URL: "now-1h" … "now", or RFC 3339 times. */
export interface TimeRange {
  readonly from: string;
  readonly to: string;
}

/** A range at one moment, in seconds since the epoch. */
export interface ResolvedRange {
  readonly start: number;
  readonly end: number;
}

export const defaultRange: TimeRange = { from: "now-1h", to: "now" };

export const presets: readonly { readonly from: string; readonly label: string }[] = [
  { from: "now-5m", label: m.ranges.minutes(5) },
  { from: "now-15m", label: m.ranges.minutes(15) },
  { from: "now-1h", label: m.ranges.hours(1) },
  { from: "now-3h", label: m.ranges.hours(3) },
  { from: "now-6h", label: m.ranges.hours(6) },
  { from: "now-12h", label: m.ranges.hours(12) },
  { from: "now-1d", label: m.ranges.hours(24) },
  { from: "now-2d", label: m.ranges.days(2) },
  { from: "now-7d", label: m.ranges.days(7) },
  { from: "now-30d", label: m.ranges.days(30) },
  { from: "now-90d", label: m.ranges.days(90) },
];

const unitSeconds: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

/** Seconds since the epoch of "now", "now-1h30m" or an RFC 3339 time; undefined when it is neither. */
export function parseTime(text: string, nowSeconds: number): number | undefined {
  const relative = /^now(?:-((?:\d+[smhdw])+))?$/.exec(text);
  if (relative) {
    let back = 0;
    for (const [, count = "0", unit = "s"] of (relative[1] ?? "").matchAll(/(\d+)([smhdw])/g)) {
      back += Number(count) * (unitSeconds[unit] ?? 0);
    }
    return nowSeconds - back;
  }
  const millis = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(millis) ? undefined : millis / 1000;
}

/** Seconds of a duration as Prometheus writes it ("1h30m"); undefined when it is none. */
export function seconds(text: string): number | undefined {
  if (!/^(\d+(ms|[smhdwy]))+$/.test(text)) return undefined;
  const unit: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };
  let total = 0;
  for (const [, n = "0", u = "s"] of text.matchAll(/(\d+)(ms|[smhdwy])/g)) total += Number(n) * (unit[u] ?? 0);
  return total;
}

/** What a range means now. A range that cannot be read, or that runs backwards, is the default one. */
export function resolveRange(range: TimeRange, nowSeconds: number): ResolvedRange {
  const start = parseTime(range.from, nowSeconds);
  const end = parseTime(range.to, nowSeconds);
  if (start === undefined || end === undefined || start >= end) {
    return { start: nowSeconds - 3600, end: nowSeconds };
  }
  return { start, end };
}

export const isLive = (range: TimeRange): boolean => range.to.startsWith("now");

export const toRFC3339 = (seconds: number): string => new Date(seconds * 1000).toISOString().replace(/\.000Z$/, "Z");

/** The absolute range around a moment. */
export const around = (seconds: number, marginSeconds: number): TimeRange => ({
  from: toRFC3339(Math.floor(seconds - marginSeconds)),
  to: toRFC3339(Math.ceil(seconds + marginSeconds)),
});

/** Twice as wide, around the same middle but never into the future. */
export function widen(range: TimeRange, nowSeconds: number): TimeRange {
  const { start, end } = resolveRange(range, nowSeconds);
  const half = (end - start) / 2;
  if (isLive(range)) {
    const wanted = (end - start) * 2;
    const preset = presets.find((p) => nowSeconds - (parseTime(p.from, nowSeconds) ?? nowSeconds) >= wanted);
    return { from: preset?.from ?? "now-90d", to: "now" };
  }
  const to = Math.min(nowSeconds, end + half);
  return { from: toRFC3339(Math.floor(start - half)), to: toRFC3339(Math.ceil(to)) };
}

const niceSteps = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/**
 * The distance of a chart's points: at least the cluster's interval, a multiple of it, and so that
 * about `points` of them cover the range.
 */
export function stepFor(seconds: number, intervalSeconds: number, points: number): number {
  const wanted = Math.max(intervalSeconds, seconds / points);
  const nice = niceSteps.find((s) => s >= wanted && s % intervalSeconds === 0);
  return nice ?? Math.ceil(wanted / intervalSeconds) * intervalSeconds;
}

/** Bounds on the grid of the step, so that points stay where they are from one refresh to the next. */
export function alignRange(range: ResolvedRange, stepSeconds: number): ResolvedRange {
  return {
    start: Math.floor(range.start / stepSeconds) * stepSeconds,
    end: Math.floor(range.end / stepSeconds) * stepSeconds,
  };
}
