import { describe, expect, it } from "vitest";
import { likeness, noTerms, oneLine, pipesAt, readTerms, readWords, split, type Terms, writeTerms, writeWords } from "./terms";

const terms = (t: Partial<Terms>): Terms => ({ ...noTerms, ...t });

describe("reads what was typed", () => {
  it.each<[string, Partial<Terms>]>([
    ["", {}],
    ["*", {}],
    ["timeout", { words: ["timeout"] }],
    ['"connection refused" and timeout', { words: ["connection refused", "timeout"] }],
    ["level:error", { levels: ["error"] }],
    ["level:in(error, fatal) x", { levels: ["error", "fatal"], words: ["x"] }],
    ['level:="warn"', { levels: ["warn"] }],
    ['-level:="debug"', { fields: [{ field: "level", relation: "!=", value: "debug" }] }],
    ['workload:="cart" status:>=500', { fields: [{ field: "workload", relation: "=", value: "cart" }, { field: "status", relation: ">=", value: "500" }] }],
    ['-pod:="a \\"b\\"" !path:health', { fields: [{ field: "pod", relation: "!=", value: 'a "b"' }, { field: "path", relation: "!:", value: "health" }] }],
    ["not debug", { fields: [{ field: "_msg", relation: "!:", value: "debug" }] }],
    ['msg:~"a|b"', { fields: [{ field: "msg", relation: "~", value: "a|b" }] }],
    ["(a or b) c", { rest: ["(a or b)"], words: ["c"] }],
    ["warn* x", { rest: ["warn*"], words: ["x"] }],
    ["x | stats count()", { words: ["x"], pipes: "| stats count()" }],
    ["x y;", { words: ["x", "y"] }],
    ["id:in(b | fields id) x", { rest: ["id:in(b | fields id)"], words: ["x"] }],
    ["kubernetes.io/name:=a", { fields: [{ field: "kubernetes.io/name", relation: "=", value: "a" }] }],
    ["options(concurrency=2) x # why", { words: ["x"], options: "options(concurrency=2)", pipes: "# why" }],
    ["日志 🔥", { words: ["日志", "🔥"] }],
  ])("%s", (typed, want) => expect(readTerms(typed)).toEqual(terms(want)));

  it.each(["a or b", "not not a", '"open', "(a", "a)", "level: error", "x not"])("%s, which is no list of terms", (typed) => expect(readTerms(typed)).toBeUndefined());
});

describe("writes what it reads", () => {
  it.each<Partial<Terms>>([
    { words: ["a b", "or", "pattern_match", "from", "-x", "ünïcode", 'quo"te', "a:b", "x*"] },
    { levels: ["error", "fatal"], words: ["x"] },
    { fields: [{ field: "a b", relation: "=", value: "1" }, { field: "_msg", relation: "!:", value: "not this" }, { field: "n", relation: "<", value: "5" }] },
    { fields: [{ field: "workload", relation: ":", value: "in" }, { field: "x", relation: "~", value: "^a\\.b$" }] },
    { words: ["#1", "options"], options: "options(concurrency=2)", pipes: "| limit 1 # x" },
    { rest: ["(a or b)"], pipes: "| sort by (_time)" },
    { words: ["line\nbreak", "tab\t", "back\\slash"] },
  ])("%j", (t) => expect(readTerms(writeTerms(terms(t)))).toEqual(terms(t)));

  it("leaves a field without a value out", () => expect(writeTerms(terms({ words: ["a", ""], fields: [{ field: "pod", relation: "=", value: "" }, { field: "", relation: "=", value: "x" }] }))).toBe("a"));
});

it.each([
  ["a|b", 1],
  ['"a|b" | x', 6],
  ["'a|' `|` x", -1],
  ['"open | x', -1],
  ["id:in(b | fields id) n:range(1, 5] | limit 1", 35],
  ["a # b | c", 2],
  ['"#" | c', 4],
])("of %j the pipes begin at %d", (text, want) => expect(pipesAt(text)).toBe(want));

it.each([
  ["a\n  | limit 1\n", "a | limit 1 "],
  ["a # it's\nb", "a b"],
  ["# x\n# y\na", " a"],
  ['"#" a\n# x', '"#" a # x'],
  ["a # x\r\n| limit 1 # y", "a | limit 1 # y"],
])("puts %j on one line", (text, want) => expect(oneLine(text)).toBe(want));

it("splits at blanks outside of quotes and brackets", () => expect(split('a "b c" level:in(x, y) (d or e)')).toEqual(["a", '"b c"', "level:in(x, y)", "(d or e)"]));

it.each([
  ['error "connection refused" x', ["error", "connection refused", "x"]],
  ['"open phrase', ["open phrase"]],
  ["  ", []],
])("reads the words of %j", (text, want) => {
  expect(readWords(text)).toEqual(want);
  expect(readWords(writeWords(want))).toEqual(want);
});

it.each([
  ["failed to connect to 10.0.0.1:5432: timeout", "failed to connect to"],
  ['{"msg":"payment provider refused","id":17}', "payment provider refused"],
  ["12345", ""],
  ["2026-03-01 GET /cart 500 in 12ms: upstream closed the connection", "upstream closed the connection"],
])("lines like %j hold %j", (line, want) => expect(likeness(line)).toBe(want));
