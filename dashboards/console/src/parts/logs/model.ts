import { quote } from "@/api/prometheus";
import type { Bucket, Row } from "@/api/logsql";
import { logs as m } from "@/i18n/logs";
import { fieldName, parts } from "./terms";

/** Levels by severity, the worst first; every other word is "other". */
export const levels = ["fatal", "error", "warn", "info", "debug", "trace", "other"] as const;
export type Level = (typeof levels)[number];

const levelWords: Record<string, Level> = {
  fatal: "fatal",
  panic: "fatal",
  critical: "fatal",
  crit: "fatal",
  emerg: "fatal",
  alert: "fatal",
  error: "error",
  err: "error",
  severe: "error",
  warn: "warn",
  warning: "warn",
  info: "info",
  information: "info",
  notice: "info",
  normal: "info",
  debug: "debug",
  trace: "trace",
};

export const levelOf = (word: string | undefined): Level => levelWords[(word ?? "").toLowerCase()] ?? "other";

// The escape sequences that colour a terminal.
const ansi = /\u001b\[[0-9;?]*[A-Za-z]/g;

/** A line's text. What a pipe made (a count, some fields) has none and is told by its fields. */
export const message = (row: Row): string =>
  row._msg === undefined && row._time === undefined
    ? Object.entries(row).map(([name, value]) => `${name}=${value}`).join("  ")
    : (row._msg ?? "").replace(ansi, "");

/** What a level is called. */
export const levelName = (level: Level): string => m.levels[level] ?? level;

// A text in quotes, or what stands between signs and room. Numbers stay as they were written: an id may be longer than a number here is exact.
const jsonParts = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** How deep what is expanded may be nested: what is indented takes the square of that. */
const deepest = 100;

/** A line of JSON on lines of its own; every other line as it is. */
export function expanded(text: string): string {
  const own = text.trim();
  if (!/^[[{]/.test(own)) return text;
  try {
    JSON.parse(own);
  } catch {
    return text;
  }
  const parts = own.match(jsonParts) ?? [];
  const out: string[] = [];
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [i, part] of parts.entries()) {
    const opens = part === "{" || part === "[";
    const closes = part === "}" || part === "]";
    // Nothing within it: it stays on its line.
    if (opens) out.push(/^[}\]]/.test(parts[i + 1] ?? "") ? part : `${part}${(depth++, line())}`);
    else if (closes) out.push(/^[{[]$/.test(parts[i - 1] ?? "") ? part : `${(depth--, line())}${part}`);
    else out.push(part === "," ? `,${line()}` : part === ":" ? ": " : part);
    if (depth > deepest) return text;
  }
  return out.join("");
}

/** Seconds since the epoch of a row. */
export const rowTime = (row: Row): number => Date.parse(row._time ?? "") / 1000;

/** The line's own time, by how many milliseconds it lies before the row's; undefined where it has none. */
export function ownTime(row: Row): string | undefined {
  const lag = Number(row.lag_ms ?? "");
  const at = Date.parse(row._time ?? "");
  if (!row.lag_ms || !Number.isSafeInteger(lag) || Math.abs(lag) > 86_400_000 || Number.isNaN(at)) return undefined;
  return new Date(at - lag).toISOString();
}

export type LogScope = Readonly<Record<string, string | undefined>>;

/**
 * The LogsQL of what a view looks at, and what the reader typed. Events live in the same store as
 * rows of stream "events" and are apart from log lines.
 */
export function logsQuery(scope: LogScope, typed: string, what: "logs" | "events", fixed?: string): string {
  const fields = Object.entries(scope).flatMap(([field, value]) =>
    value === undefined || value === "" ? [] : [`${field}:=${quote(value)}`],
  );
  const all = [...fields, what === "events" ? 'stream:="events"' : '-stream:="events"'];
  if (fixed !== undefined) all.push(`(${fixed})`);
  // What was typed may hold "or", and pipes, which belong behind the whole.
  const { options, filter, pipes } = parts(typed);
  if (options !== "") all.unshift(options);
  if (filter !== "" && filter !== "*") all.push(`(${filter})`);
  if (pipes !== "") all.push(pipes);
  return all.join(" ");
}

/** Adds a field's value to what was typed, or excludes it. */
export function withField(typed: string, field: string, value: string, exclude: boolean): string {
  const term = `${exclude ? "-" : ""}${fieldName(field)}:=${quote(value)}`;
  const { options, filter, pipes } = parts(typed);
  const own = filter === "*" ? "" : /\bor\b/i.test(filter) ? `(${filter})` : filter;
  return [options, own, term, pipes].filter((part) => part !== "").join(" ");
}

/** What a search is about, for a policy that counts what it finds: a filter without pipes, and where it looks. */
export function policySearch(what: "logs" | "events", scope: LogScope, typed: string, fixed?: string): Record<string, string> {
  const { options, filter } = parts(typed);
  // A policy chooses clusters, namespaces and workloads by itself; the rest of the place stands in its filter.
  const chosen = what === "logs" ? ["cluster", "namespace", "workload_type", "workload"] : ["cluster", "namespace"];
  const given = Object.entries(scope).filter((e): e is [string, string] => typeof e[1] === "string" && e[1] !== "");
  const terms = [
    // No policy takes them: it is said there.
    ...(options === "" ? [] : [options]),
    ...given.filter(([field]) => !chosen.includes(field)).map(([field, value]) => `${field}:=${quote(value)}`),
    ...(fixed === undefined ? [] : [`(${fixed})`]),
    ...(filter === "" || filter === "*" ? [] : [/\bor\b/i.test(filter) && (given.length > 0 || fixed !== undefined) ? `(${filter})` : filter]),
  ];
  return { ...Object.fromEntries(given.filter(([field]) => chosen.includes(field))), level: what === "logs" ? "log" : "event", query: terms.length === 0 ? "*" : terms.join(" ") };
}

/** Counts of a histogram: one stack of levels for each step of the range. */
export interface Histogram {
  /** The beginning of each step, in seconds since the epoch. */
  readonly times: readonly number[];
  readonly stepSeconds: number;
  readonly stacks: readonly Readonly<Record<Level, number>>[];
  readonly total: number;
  readonly byLevel: Readonly<Record<Level, number>>;
}

const noCounts = (): Record<Level, number> => ({ fatal: 0, error: 0, warn: 0, info: 0, debug: 0, trace: 0, other: 0 });

/** Buckets by a field's words, put on the grid of the range and into levels. */
export function histogram(buckets: readonly Bucket[], start: number, end: number, stepSeconds: number): Histogram {
  const first = Math.floor(start / stepSeconds) * stepSeconds;
  const length = Math.max(1, Math.ceil((end - first) / stepSeconds));
  const times = Array.from({ length }, (_, i) => first + i * stepSeconds);
  const stacks = times.map(noCounts);
  const byLevel = noCounts();
  let total = 0;
  for (const b of buckets) {
    const level = levelOf(b.value);
    b.times.forEach((t, i) => {
      const stack = stacks[Math.floor((t - first) / stepSeconds)];
      const n = b.counts[i] ?? 0;
      if (!stack) return;
      stack[level] += n;
      byLevel[level] += n;
      total += n;
    });
  }
  return { times, stepSeconds, stacks, total, byLevel };
}

const hidden = new Set(["_msg", "_time", "_stream", "_stream_id"]);

/** A row's fields to show, the ones that place it first. */
export function fields(row: Row): [string, string][] {
  const order = ["cluster", "namespace", "workload_type", "workload", "pod", "container", "node", "stream", "level"];
  const place = (f: string) => (order.includes(f) ? order.indexOf(f) : order.length);
  return Object.entries(row)
    .filter(([name, value]) => !hidden.has(name) && value !== "")
    .sort(([a], [b]) => place(a) - place(b) || a.localeCompare(b));
}

/** Names a row among others of the same moment. */
export const rowKey = (row: Row): string =>
  `${row._time ?? ""} ${row._stream_id ?? row._stream ?? ""} ${row.pod ?? ""} ${row.container ?? ""} ${row._msg ?? ""}`;

/** Keys that stay unique when two rows are equal. */
export function keyed(rows: readonly Row[]): { key: string; row: Row }[] {
  const seen = new Map<string, number>();
  return rows.map((row) => {
    const key = rowKey(row);
    const n = seen.get(key) ?? 0;
    seen.set(key, n + 1);
    return { key: n === 0 ? key : `${key} #${n}`, row };
  });
}

/** The plain words and phrases of a query: what is to be marked in the lines that it found. */
export function wordsOf(typed: string): string[] {
  const words: string[] = [];
  // Fields, negations, operators and pipes name no text of the message.
  const { filter } = parts(typed);
  for (const [, negated, quoted, word] of filter.matchAll(/(?:^|\s)(-|!|not\s+)?(?:"((?:[^"\\]|\\.)+)"|([^\s"():|]+)(?=\s|$))/gi)) {
    const text = quoted ?? word?.replace(/\*$/, "") ?? "";
    if (negated !== undefined || text.length < 2 || /^(and|or|not|-.*|!.*|\*)$/i.test(text)) continue;
    words.push(text);
  }
  return words.slice(0, 10);
}

/** A text cut at the words that are to be marked, whatever their case. */
export function pieces(text: string, words: readonly string[]): { readonly text: string; readonly marked: boolean }[] {
  if (words.length === 0) return [{ text, marked: false }];
  const pattern = new RegExp(`(${words.map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
  return text.split(pattern).flatMap((part, i) => (part === "" ? [] : [{ text: part, marked: i % 2 === 1 }]));
}
