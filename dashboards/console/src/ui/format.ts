import { digits as written, plural as counted } from "@/i18n/language";
import { ui as m } from "@/i18n/ui";
import { type WallTime, wallTime } from "./zone";

/**
 * The one place where numbers become text. The server sends base units (bytes, cores, per cent,
 * seconds); what is unknown is null and is shown as a dash, never as zero.
 */
export const unknown = "–";

export type Quantity = number | null | undefined;

const isKnown = (v: Quantity): v is number => v !== null && v !== undefined && Number.isFinite(v);

const large = ["", "k", "M", "G", "T", "P", "E"] as const;
/** From here on a number is no longer read digit by digit, and has no room beside an axis. */
const largeFrom = 1e7;

/** Three significant digits, without trailing zeros: 0.00123, 1.23, 12.3, 123, 1,234; of large ones 28.7 M. */
export function number(v: Quantity): string {
  if (!isKnown(v)) return unknown;
  const a = Math.abs(v);
  if (a === 0) return "0";
  if (a < 0.0005) return v < 0 ? "−0.000" : "< 0.001";
  if (a >= largeFrom) {
    const s = scaled(v, 1000, large);
    return `${compact(s.value)} ${s.unit}`;
  }
  const digits = a >= 100 ? 0 : a >= 10 ? 1 : a >= 1 ? 2 : 3;
  return written(v, digits).replace("-", "−");
}

export const count = (v: Quantity): string => (isKnown(v) ? written(Math.round(v)) : unknown);

const binary = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;
const decimal = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"] as const;

function scaled(v: number, base: number, units: readonly string[]): { value: number; unit: string } {
  let i = 0;
  let value = v;
  // 1023.5 KiB reads worse than 1 MiB.
  while (Math.abs(value) >= base * 0.9995 && i < units.length - 1) {
    value /= base;
    i++;
  }
  return { value, unit: units[i] ?? "" };
}

const compact = (v: number): string => {
  const a = Math.abs(v);
  return written(v, a >= 100 ? 0 : a >= 10 ? 1 : 2).replace("-", "−");
};

/** Memory, in powers of 1024: 412 MiB. */
export function bytes(v: Quantity): string {
  if (!isKnown(v)) return unknown;
  const s = scaled(v, 1024, binary);
  return `${s.unit === "B" ? count(s.value) : compact(s.value)} ${s.unit}`;
}

/** Bandwidth, in powers of 1000: 1.2 MB/s. */
export function bytesPerSecond(v: Quantity): string {
  if (!isKnown(v)) return unknown;
  const s = scaled(v, 1000, decimal);
  return `${compact(s.value)} ${s.unit}`;
}

/** Cores, in millicores under one, as Kubernetes writes them: 250m, 1.5. */
export function cores(v: Quantity): string {
  if (!isKnown(v)) return unknown;
  if (v === 0) return "0";
  if (Math.abs(v) < 0.001) return "< 1m";
  if (Math.abs(v) < 1) return `${Math.round(v * 1000)}m`;
  return compact(v);
}

/** Per cent of 0–100: one decimal under ten. */
export function percent(v: Quantity): string {
  if (!isKnown(v)) return unknown;
  const a = Math.abs(v);
  if (a > 0 && a < 0.05) return "< 0.1 %";
  return `${written(v, a < 10 ? 1 : 0)} %`;
}

/** A value of the catalogue, by its entry's unit. */
export function byUnit(v: Quantity, unit: string): string {
  switch (unit) {
    case "%":
      return percent(v);
    case "cores":
      return cores(v);
    case "B":
      return bytes(v);
    case "B/s":
      return bytesPerSecond(v);
    case "s":
      return isKnown(v) && Math.abs(v) < 10 ? m.seconds(number(v)) : duration(v);
    case "0/1":
      return isKnown(v) ? (v === 1 ? m.yes : v === 0 ? m.no : number(v)) : unknown;
    default:
      return number(v);
  }
}

/** What somebody wrote, as 99.5 %: unlike what was measured it is not rounded. */
export function exactly(v: number, unit: string): string {
  if (unit === "%") return `${written(v, 12)} %`;
  return unit === "count" || unit === "" ? written(v, 12) : byUnit(v, unit);
}

/** The unit's name for a heading; empty when values carry it themselves or have none. */
export function unitName(unit: string): string {
  switch (unit) {
    case "%":
      return "%";
    case "cores":
      return m.units.cores;
    case "B":
      return m.units.bytes;
    case "B/s":
      return m.units.bytesPerSecond;
    default:
      return "";
  }
}

/** A length of time, as exact as it matters: 45 s, 12 min, 2 h 10 min, 17 h, 3 d 4 h, 40 d. */
export function duration(seconds: Quantity): string {
  if (!isKnown(seconds)) return unknown;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return m.seconds(String(s));
  if (s < 3600) return m.minutes(Math.floor(s / 60));
  if (s < 86400) {
    const minutes = Math.floor((s % 3600) / 60);
    const hours = Math.floor(s / 3600);
    return minutes > 0 && hours < 10 ? `${m.hours(hours)} ${m.minutes(minutes)}` : m.hours(hours);
  }
  const hours = Math.floor((s % 86400) / 3600);
  const days = Math.floor(s / 86400);
  return hours > 0 && days < 10 ? `${m.days(days)} ${m.hours(hours)}` : m.days(days);
}

/** Seconds since the epoch of an RFC 3339 time; undefined for none, and for Go's zero time. */
export function instant(time: string | null | undefined): number | undefined {
  if (time === null || time === undefined || time === "" || time.startsWith("0001-")) return undefined;
  const millis = Date.parse(time);
  return Number.isNaN(millis) ? undefined : millis / 1000;
}

/** "12 min", the age of a moment. */
export function age(time: string | null | undefined, nowSeconds: number): string {
  const at = instant(time);
  return at === undefined ? unknown : duration(nowSeconds - at);
}

const two = (n: number): string => String(n).padStart(2, "0");
const three = (n: number): string => String(n).padStart(3, "0");

const day = (t: WallTime): string => `${t.year}-${two(t.month)}-${two(t.day)}`;

/** The time of day in the reader's zone, with the date when it is not today: 10:32, 11-23 10:32. */
export function clock(seconds: number, nowSeconds: number, withSeconds = false): string {
  const t = wallTime(seconds);
  const time = `${two(t.hour)}:${two(t.minute)}${withSeconds ? `:${two(t.second)}` : ""}`;
  return day(t) === day(wallTime(nowSeconds)) ? time : `${day(t).slice(5)} ${time}`;
}

/** The full time in the reader's zone: 2026-11-23 10:32:05. */
export function dateTime(seconds: number): string {
  const t = wallTime(seconds);
  return `${day(t)} ${two(t.hour)}:${two(t.minute)}:${two(t.second)}`;
}

/** The time of a log line, with milliseconds: 10:32:05.120. */
export function lineTime(seconds: number): string {
  const t = wallTime(seconds);
  return `${two(t.hour)}:${two(t.minute)}:${two(t.second)}.${three(t.millis)}`;
}

/** "1 node", "2 nodes". */
export const plural = counted;
