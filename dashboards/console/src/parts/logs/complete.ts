import { find } from "./terms";

/** What can be written at a place of a LogsQL query, and where what is already written of it begins. */
export type Place =
  | { readonly kind: "term" | "pipe" | "function" | "field"; readonly from: number }
  | { readonly kind: "value"; readonly from: number; readonly field: string; readonly prefix: string; /** The quote that the value stands in already. */ readonly quote: string }
  | { readonly kind: "none" };

/** Words that join terms. */
export const joins = ["and", "or", "not"] as const;

/** Pipes of VictoriaLogs v1.52, each by one of its names; without those that tell of the store and not of lines. */
export const pipes = [
  "stats", "top", "uniq", "sort", "fields", "filter", "limit", "first", "last", "extract", "extract_regexp", "format", "unpack_json", "unpack_logfmt", "unpack_syslog", "unpack_words", "math", "replace", "replace_regexp", "rename", "delete", "copy", "len", "facets", "field_names", "field_values", "sample", "offset", "running_stats", "total_stats", "collapse_nums", "coalesce", "decolorize", "drop_empty_fields", "hash", "join", "union", "split", "unroll", "json_array_concat", "json_array_len", "pack_json", "pack_logfmt", "set_stream_fields", "stream_context", "time_add", "generate_sequence",
] as const;

export const functions = [
  "count()", "count_uniq(", "count_uniq_hash(", "count_empty(", "sum(", "sum_len(", "avg(", "min(", "max(", "median(", "quantile(0.95, ", "stddev(", "rate()", "rate_sum(", "histogram(", "any(", "uniq_values(", "field_min(", "field_max(", "row_any(", "row_max(", "row_min(", "values(", "json_values(",
] as const;

const none: Place = { kind: "none" };

/** Where the last of what blanks, brackets and commas part begins, outside of quotes; and the quote that is open there. */
function last(text: string, parting: RegExp): { from: number; quote: string; quoteAt: number } {
  let from = 0;
  let quote = "";
  let quoteAt = -1;
  for (let i = 0; i < text.length; i++) {
    const c = text.charAt(i);
    if (quote !== "") {
      if (c === "\\" && quote !== "`") i++;
      else if (c === quote) quote = "";
    } else if (c === '"' || c === "'" || c === "`") {
      quote = c;
      quoteAt = i;
    } else if (parting.test(c)) from = i + 1;
  }
  return { from, quote, quoteAt };
}

/** Those whose brackets hold values of the field. */
const ofValues = "(?:in|contains_any|contains_all|contains_common_case|equals_common_case)";
const fieldOf = new RegExp(String.raw`([\w.@/-]+|"(?:[^"\\]|\\.)+"):(?:=|${ofValues}\()?$`);
const listOf = new RegExp(String.raw`([\w.@/-]+|"(?:[^"\\]|\\.)+"):${ofValues}\((?:[^()]*,)?\s*$`);

function inFilter(text: string, offset: number): Place {
  // A value's own brackets hold a list: "level:in(error, wa".
  const { from, quote, quoteAt } = last(text, /[\s(),]/);
  const begin = quote === "" ? from : quoteAt;
  const token = text.slice(from);
  const list = listOf.exec(text.slice(0, begin));
  if (list) return value(list[1] ?? "", text.slice(begin), offset + begin);
  // "pod:=", "-pod:=ca", "level:"wa
  const at = /^[-!]?((?:[\w.@/-]+|"(?:[^"\\]|\\.)+")):(=?)(.*)$/s.exec(token);
  if (at) {
    const [, name = "", , said = ""] = at;
    if (/^[<>~]/.test(said)) return none;
    return value(name, said, offset + text.length - said.length);
  }
  if (quote !== "") {
    const before = fieldOf.exec(text.slice(0, quoteAt));
    return before ? value(before[1] ?? "", text.slice(quoteAt), offset + quoteAt) : none;
  }
  const sign = /^[-!]/.test(token) ? 1 : 0;
  return { kind: "term", from: offset + from + sign };
}

function value(name: string, said: string, from: number): Place {
  const field = name.startsWith('"') ? name.slice(1, -1) : name;
  const quote = /^["'`]/.exec(said)?.[0] ?? "";
  return { kind: "value", field, prefix: said.slice(quote.length), quote, from };
}

/** What the reader is writing at the end of a text. */
export function placeAt(text: string): Place {
  if (find(text, (c) => c === "#") >= 0) return none; // within a comment
  const bar = last(text, /\|/).from - 1; // also one of a query within brackets
  if (bar < 0) return inFilter(text, 0);
  const own = text.slice(bar + 1);
  const offset = bar + 1;
  const words = /^\s*(\S*)$/.exec(own);
  if (words) return { kind: "pipe", from: offset + own.length - (words[1] ?? "").length };
  const name = /^\s*(\w+)/.exec(own)?.[1] ?? "";
  const after = /^\s*\w+\s/.exec(own)?.[0].length ?? 0;
  if (name === "filter" || name === "where") return inFilter(own.slice(after), offset + after);
  const { from, quote } = last(own, /[\s(),]/);
  if (quote !== "" || name === "limit" || name === "offset" || name === "sample") return none;
  const before = own.slice(0, from);
  if (name === "stats") {
    const open = before.lastIndexOf("(") > before.lastIndexOf(")");
    if (open) return { kind: "field", from: offset + from };
    return /(?:^\s*stats\s+|\)\s*|,\s*)$/.test(before) && !/\sas\s*$/.test(before) ? { kind: "function", from: offset + from } : none;
  }
  return { kind: "field", from: offset + from };
}
