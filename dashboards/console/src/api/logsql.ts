import { request } from "./request";

/** A stored row: all fields are text. */
export type Row = Readonly<Record<string, string>>;

export interface Bucket {
  readonly value: string;
  /** Seconds since the epoch. */
  readonly times: readonly number[];
  readonly counts: readonly number[];
}

function row(line: string): Row | undefined {
  try {
    const parsed: unknown = JSON.parse(line);
    return typeof parsed === "object" && parsed !== null ? (parsed as Row) : undefined;
  } catch {
    return undefined;
  }
}

/** Rows of newline-delimited JSON; a broken line is left out. */
export const parseRows = (text: string): Row[] =>
  text.split("\n").flatMap((line) => {
    const r = line === "" ? undefined : row(line);
    return r === undefined ? [] : [r];
  });

/** The newest `limit` rows of the range that match, newest first. */
export async function queryLogs(
  query: string,
  start: number,
  end: number,
  limit: number,
  signal: AbortSignal,
): Promise<Row[]> {
  const params = new URLSearchParams({ query, start: String(start), end: String(end), limit: String(limit) });
  const response = await request(`/select/logsql/query?${params}`, { signal });
  return parseRows(await response.text()).sort((a, b) => (b._time ?? "").localeCompare(a._time ?? ""));
}

interface HitsAnswer {
  readonly hits: readonly {
    readonly fields: Record<string, string>;
    readonly timestamps: readonly string[];
    readonly values: readonly number[];
  }[];
}

/** How many rows match in each step, by the values of a field. */
export async function queryHits(
  query: string,
  start: number,
  end: number,
  stepSeconds: number,
  field: string,
  signal: AbortSignal,
): Promise<Bucket[]> {
  const params = new URLSearchParams({ query, start: String(start), end: String(end), step: `${stepSeconds}s`, field });
  const response = await request(`/select/logsql/hits?${params}`, { signal });
  const body = (await response.json()) as HitsAnswer;
  return body.hits.map((h) => ({
    value: h.fields[field] ?? "",
    times: h.timestamps.map((t) => Date.parse(t) / 1000),
    counts: h.values,
  }));
}

/** Rows as they arrive. Ends when the signal aborts, or when the server ends the stream. */
export async function* tailLogs(query: string, signal: AbortSignal): AsyncGenerator<Row[]> {
  const response = await request(`/select/logsql/tail?${new URLSearchParams({ query })}`, { signal });
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const text = rest + value;
      const end = text.lastIndexOf("\n");
      rest = text.slice(end + 1);
      const rows = parseRows(text.slice(0, end + 1));
      if (rows.length > 0) yield rows;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

interface ValuesAnswer {
  readonly values: readonly { readonly value: string; readonly hits: number }[];
}

/** The fields of the rows that match, those of most rows first. */
export async function queryFieldNames(query: string, start: number, end: number, signal: AbortSignal): Promise<string[]> {
  const params = new URLSearchParams({ query, start: String(start), end: String(end) });
  const response = await request(`/select/logsql/field_names?${params}`, { signal });
  const { values } = (await response.json()) as ValuesAnswer;
  return [...values].sort((a, b) => b.hits - a.hits).map((v) => v.value);
}

/** Values of a field of the rows that match, the most frequent first; at most so many, which need not be the most frequent then. */
export async function queryFieldValues(query: string, field: string, start: number, end: number, limit: number, signal: AbortSignal): Promise<string[]> {
  const params = new URLSearchParams({ query, field, start: String(start), end: String(end), limit: String(limit) });
  const response = await request(`/select/logsql/field_values?${params}`, { signal });
  const { values } = (await response.json()) as ValuesAnswer;
  return [...values].sort((a, b) => b.hits - a.hits || a.value.localeCompare(b.value)).map((v) => v.value).filter((v) => v !== "");
}
