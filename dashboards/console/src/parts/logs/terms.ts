import { quote } from "@/api/prometheus";

// A LogsQL query as a form shows it. What all must hold is a list of terms; what the form has no control
// for is kept as it was typed. Only alternatives at the top are no list: these are for the query line.

/** What can stand for a value of the message or of a field, with brackets behind it, as VictoriaLogs v1.52 has it. */
export const filters = [
  "in", "contains_any", "contains_all", "contains_common_case", "equals_common_case", "json_array_contains_any", "exact", "i", "re", "seq", "pattern_match", "pattern_match_full", "pattern_match_prefix", "pattern_match_suffix", "range", "string_range", "len_range", "ipv4_range", "ipv6_range", "eq_field", "lt_field", "le_field", "value_type",
] as const;

/** How a field is held against a value, as LogsQL writes it between the two. */
export const relations = ["=", "!=", ":", "!:", "~", ">", ">=", "<", "<="] as const;
export type Relation = (typeof relations)[number];

export interface FieldTerm {
  readonly field: string;
  readonly relation: Relation;
  readonly value: string;
}

export interface Terms {
  /** Words and phrases of the message. */
  readonly words: readonly string[];
  /** Any of these levels; none means all. */
  readonly levels: readonly string[];
  readonly fields: readonly FieldTerm[];
  /** Terms that a form has no control for, as they were typed. */
  readonly rest: readonly string[];
  /** What stands before all else: "options(…)". */
  readonly options: string;
  /** What stands behind the first bar, with it; or the comment at the end. */
  readonly pipes: string;
}

export const noTerms: Terms = { words: [], levels: [], fields: [], rest: [], options: "", pipes: "" };

const closing: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

/** The length of a quoted text that begins at a place; undefined when it does not end. */
function quotedLength(text: string, at: number): number | undefined {
  const mark = text.charAt(at);
  for (let i = at + 1; i < text.length; i++) {
    const c = text.charAt(i);
    // Between backticks nothing is escaped.
    if (c === "\\" && mark !== "`") i++;
    else if (c === mark) return i + 1 - at;
  }
  return undefined;
}

/** The first place outside of quotes that is the one looked for, by its sign and by how deep in brackets it leaves one; -1 when there is none. */
export function find(text: string, is: (sign: string, depth: number) => boolean): number {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charAt(i);
    if (c === '"' || c === "'" || c === "`") {
      i += (quotedLength(text, i) ?? text.length) - 1;
      continue;
    }
    if (/[([{]/.test(c)) depth++;
    else if (/[)\]}]/.test(c)) depth--;
    if (is(c, depth)) return i;
  }
  return -1;
}

/** Where the pipes of a line begin, or the comment at its end, outside of quotes and brackets; -1 when there are none. */
export const pipesAt = (text: string): number => find(text, (c, depth) => (c === "|" || c === "#") && depth <= 0);

/** A query without the comments that another line follows; one at the end stays. */
function uncommented(text: string): string {
  let out = "";
  for (let left = text; left !== ""; ) {
    const at = find(left, (c) => c === "#");
    const end = at < 0 ? -1 : left.indexOf("\n", at);
    out += end < 0 ? left : left.slice(0, at);
    left = end < 0 ? "" : left.slice(end);
  }
  return out;
}

/** A query on one line, where a comment would hide what the next ones say. */
export const oneLine = (text: string): string => uncommented(text).replace(/\s*\n\s*/g, " ");

/** What was typed as the options before all else, its filter, and the pipes with their bar, or a comment; without the sign that may end a query, as more is put beside it. */
export function parts(typed: string): { readonly options: string; readonly filter: string; readonly pipes: string } {
  const own = uncommented(typed.trim()).trim().replace(/\s*;$/, "");
  const options = /^options\s*\(/i.test(own) ? own.slice(0, find(own, (c, depth) => /[)\]}]/.test(c) && depth === 0) + 1) : "";
  const rest = own.slice(options.length).trim();
  const at = pipesAt(rest);
  if (at < 0) return { options, filter: rest, pipes: "" };
  const filter = rest.slice(0, at).trim();
  return { options, filter: rest.charAt(at) === "#" ? filter.replace(/\s*;$/, "") : filter, pipes: rest.slice(at) };
}

/** A filter cut at its blanks, outside of quotes and brackets; undefined when one of these does not end. */
export function split(filter: string): string[] | undefined {
  const found: string[] = [];
  let open: string[] = [];
  let token = "";
  for (let i = 0; i < filter.length; i++) {
    const c = filter.charAt(i);
    if (c === '"' || c === "'" || c === "`") {
      const n = quotedLength(filter, i);
      if (n === undefined) return undefined;
      token += filter.slice(i, i + n);
      i += n - 1;
    } else if (/\s/.test(c) && open.length === 0) {
      if (token !== "") found.push(token);
      token = "";
    } else {
      if (closing[c] !== undefined) open = [...open, closing[c]];
      else if (c === open.at(-1)) open = open.slice(0, -1);
      else if (/[)\]}]/.test(c) && !/[[(]/.test(token)) return undefined;
      token += c;
    }
  }
  if (open.length > 0) return undefined;
  return token === "" ? found : [...found, token];
}

const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r" };

/** A value without its quotes; undefined when it is no single value. */
function unquoted(text: string): string | undefined {
  const mark = text.charAt(0);
  if (mark !== '"' && mark !== "'" && mark !== "`") return /^[^\s"'`()[\]{}|,:=<>~!*]+$/.test(text) ? text : undefined;
  if (quotedLength(text, 0) !== text.length) return undefined;
  const inner = text.slice(1, -1);
  if (mark === "`") return inner;
  return inner.replace(/\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)/g, (_, c: string) => (c.length > 1 ? String.fromCharCode(parseInt(c.slice(1), 16)) : (escapes[c] ?? c)));
}

const term = /^([-!]?)((?:"(?:[^"\\]|\\.)*")|[\w.@/-]+):(>=|<=|=|~|>|<|)(.+)$/s;
const negated: Readonly<Record<string, Relation>> = { "=": "!=", "": "!:" };
const asked: Readonly<Record<string, Relation>> = { "=": "=", "": ":", "~": "~", ">": ">", ">=": ">=", "<": "<", "<=": "<=" };

/** Reads what was typed as terms; undefined when it says more than a list of them. */
export function readTerms(typed: string): Terms | undefined {
  const { options, filter, pipes } = parts(typed);
  const tokens = split(filter);
  if (tokens === undefined) return undefined;
  const words: string[] = [];
  const fields: FieldTerm[] = [];
  const rest: string[] = [];
  let levels: readonly string[] = [];
  let not = "";
  for (const [i, raw] of tokens.entries()) {
    const low = raw.toLowerCase();
    if (low === "or") return undefined;
    if ((low === "and" && i > 0) || raw === "*") continue;
    if (low === "not" || raw === "-" || raw === "!") {
      if (not !== "") return undefined;
      not = "-";
      continue;
    }
    // "level: error" is one term; it is read again once it stands without the blank.
    if (raw.endsWith(":")) return undefined;
    if (not !== "" && /^[-!]/.test(raw)) return undefined;
    const token = not + raw;
    not = "";
    const own = /^-|^!/.test(token) ? token.slice(1) : token;
    const word = unquoted(own);
    if (word !== undefined && word !== "") {
      if (own === token) words.push(word);
      else fields.push({ field: "_msg", relation: "!:", value: word });
      continue;
    }
    const match = term.exec(token);
    if (!match) {
      rest.push(token);
      continue;
    }
    const [, minus = "", name = "", op = "", said = ""] = match;
    const field = name.startsWith('"') ? (unquoted(name) ?? name) : name;
    const among = op === "" && minus === "" ? /^in\((.*)\)$/s.exec(said)?.[1] : undefined;
    const list = among?.split(",").map((v) => unquoted(v.trim()));
    const value = unquoted(said);
    const relation = minus === "" ? asked[op] : negated[op];
    if (field === "level" && levels.length === 0 && list?.every((v) => v !== undefined)) levels = list;
    else if (field === "level" && levels.length === 0 && value !== undefined && (relation === "=" || relation === ":")) levels = [value];
    else if (value !== undefined && relation !== undefined) fields.push({ field, relation, value });
    else rest.push(token);
  }
  return not === "" ? { words, levels, fields, rest, options, pipes } : undefined;
}

const plain = /^[\p{L}\p{N}_./-]+$/u;
const reserved = new RegExp(`^(and|or|not|-.*|!.*|${filters.join("|")}|options|if|by|as|from|now|offset)$`, "i");

/** A word or a value as LogsQL takes it, quoted where it must be. */
export const written = (value: string): string => (plain.test(value) && !reserved.test(value) ? value : quote(value));
export const fieldName = (field: string): string => (/^[\w.]+$/.test(field) && !reserved.test(field) ? field : quote(field));

export function writeField({ field, relation, value }: FieldTerm): string {
  if (field === "_msg" && relation === "!:") return `-${quote(value)}`;
  const name = fieldName(field);
  switch (relation) {
    case "=":
      return `${name}:=${quote(value)}`;
    case "!=":
      return `-${name}:=${quote(value)}`;
    case ":":
      return `${name}:${written(value)}`;
    case "!:":
      return `-${name}:${written(value)}`;
    case "~":
      return `${name}:~${quote(value)}`;
    default:
      return `${name}:${relation}${written(value)}`;
  }
}

/** Terms as LogsQL. A field without a value says nothing yet and is left out. */
export function writeTerms({ words, levels, fields, rest, options, pipes }: Terms): string {
  return [
    ...(options === "" ? [] : [options]),
    ...words.filter((w) => w !== "").map(written),
    ...(levels.length === 0 ? [] : levels.length === 1 ? [`level:=${quote(levels[0] ?? "")}`] : [`level:in(${levels.map(written).join(",")})`]),
    ...fields.filter((f) => f.field !== "" && f.value !== "").map(writeField),
    ...rest,
    ...(pipes === "" ? [] : [pipes]),
  ].join(" ");
}

/** Words as a reader types them into one field: blanks part them, quotes hold a phrase together. */
export function readWords(text: string): string[] {
  return [...text.matchAll(/"([^"]*)"?|([^\s"]+)/g)].map(([, phrase, word]) => phrase ?? word ?? "").filter((w) => w !== "");
}
export const writeWords = (words: readonly string[]): string => words.map((w) => (/\s/.test(w) ? `"${w}"` : w)).join(" ");

/** What lines like one have in common: the longest run of words without figures, which change from line to line. */
export function likeness(message: string): string {
  const runs = message
    .slice(0, 500)
    .split(/[^\p{L} _-]*\d[^\s]*|["'`{}[\]()=:;,|<>]+/u)
    .map((r) => r.trim().replace(/^[-_ ]+|[-_ ]+$/g, ""));
  return runs.reduce((best, r) => (r.length > best.length ? r : best), "").slice(0, 120);
}
