import { describe, expect, it } from "vitest";
import { expanded, fields, histogram, keyed, levelOf, logsQuery, message, ownTime, policySearch, withField, pieces, wordsOf } from "./model";

describe("logsQuery", () => {
  const scope = { cluster: "prod", pod: undefined };
  it.each([
    ["nothing typed", "", 'cluster:="prod" -stream:="events"'],
    ["a star", "*", 'cluster:="prod" -stream:="events"'],
    ["an or, which stays together", "a or b", 'cluster:="prod" -stream:="events" (a or b)'],
    ["pipes, which go to the end", "a | stats count()", 'cluster:="prod" -stream:="events" (a) | stats count()'],
    ["pipes alone", "| fields pod", 'cluster:="prod" -stream:="events" | fields pod'],
    ["a quoted bar, which is no pipe", '"a|b"', 'cluster:="prod" -stream:="events" ("a|b")'],
    ["an end, which more follows", "a or b ;", 'cluster:="prod" -stream:="events" (a or b)'],
    ["an end behind pipes", "a | limit 1;", 'cluster:="prod" -stream:="events" (a) | limit 1'],
    ["a quoted end", '";"', 'cluster:="prod" -stream:="events" (";")'],
    ["a query within it", "id:in(b | fields id;) c | limit 1", 'cluster:="prod" -stream:="events" (id:in(b | fields id;) c) | limit 1'],
    ["options, which go before all", 'options(concurrency=2, global_filter=(x:range(1, 5] ")")) a or b', 'options(concurrency=2, global_filter=(x:range(1, 5] ")")) cluster:="prod" -stream:="events" (a or b)'],
    ["options alone", "OPTIONS (concurrency=2)", 'OPTIONS (concurrency=2) cluster:="prod" -stream:="events"'],
    ["options that do not end", "options(concurrency=2", 'cluster:="prod" -stream:="events" (options(concurrency=2)'],
    ["a word that is none", '"options"', 'cluster:="prod" -stream:="events" ("options")'],
    ["a comment, which goes to the end", "a or b # don't | ask", 'cluster:="prod" -stream:="events" (a or b) # don\'t | ask'],
    ["a comment behind pipes", "a | limit 1 # x", 'cluster:="prod" -stream:="events" (a) | limit 1 # x'],
    ["an end before a comment", "a; # x", 'cluster:="prod" -stream:="events" (a) # x'],
    ["comments of several lines", "# that's it\noptions(concurrency=2) # x\na # y\n# z\nor b\n| limit 1", 'options(concurrency=2) cluster:="prod" -stream:="events" (a \n\nor b) | limit 1'],
    ["a line's end within quotes", "`a\nb`", 'cluster:="prod" -stream:="events" (`a\nb`)'],
    ["a quoted hash, which is no comment", '"#a" b', 'cluster:="prod" -stream:="events" ("#a" b)'],
    ["an escaped quote", '"a\\"|b" c', 'cluster:="prod" -stream:="events" ("a\\"|b" c)'],
  ])("with %s", (_, typed, want) => expect(logsQuery(scope, typed, "logs")).toBe(want));

  it("asks for events, with what belongs to the view", () =>
    expect(logsQuery({ cluster: 'x"y' }, "", "events", "name:=a or name:=b")).toBe('cluster:="x\\"y" stream:="events" (name:=a or name:=b)'));
});

it("adds and excludes a field's value", () => {
  expect(withField("", "level", "error", false)).toBe('level:="error"');
  expect(withField("timeout", "trace id", "x", true)).toBe('timeout -"trace id":="x"');
  expect(withField("a or b;", "level", "error", false)).toBe('(a or b) level:="error"');
  expect(withField("options(concurrency=2) a # why", "level", "error", false)).toBe('options(concurrency=2) a level:="error" # why');
  expect(withField("a | stats by (from) count()", "from", "x", false)).toBe('a "from":="x" | stats by (from) count()');
});

it.each([
  ["ERROR", "error"],
  ["Warning", "warn"],
  ["panic", "fatal"],
  ["Normal", "info"],
  ["", "other"],
  [undefined, "other"],
  ["loud", "other"],
])("level %s is %s", (word, level) => expect(levelOf(word)).toBe(level));

it("takes the colours of a terminal out of a line", () => expect(message({ _msg: "\u001b[31mred\u001b[0m plain" })).toBe("red plain"));

describe("histogram", () => {
  it("puts counts on the grid, by level, and keeps empty steps", () => {
    const h = histogram([{ value: "error", times: [60, 180], counts: [2, 1] }, { value: "", times: [60], counts: [5] }], 60, 240, 60);
    expect(h.times).toEqual([60, 120, 180]);
    expect(h.stacks.map((s) => [s.error, s.other])).toEqual([[2, 5], [0, 0], [1, 0]]);
    expect([h.total, h.byLevel.error]).toEqual([8, 3]);
  });
  it("ignores what lies outside", () => expect(histogram([{ value: "", times: [0, 999], counts: [1, 1] }], 60, 120, 60).total).toBe(0));
});

it("shows the fields that place a line first", () =>
  expect(fields({ _msg: "m", _time: "t", trace: "1", pod: "p", cluster: "c", empty: "" }).map(([n]) => n)).toEqual(["cluster", "pod", "trace"]));
it.each([
  ["nanoseconds", { _time: "2026-11-23T10:00:00.123999999Z", lag_ms: "24" }, "2026-11-23T10:00:00.099Z"],
  ["a clock ahead", { _time: "2026-11-23T10:00:00.1Z", lag_ms: "-900" }, "2026-11-23T10:00:01.000Z"],
  ["at once", { _time: "2026-11-23T10:00:00.1Z", lag_ms: "0" }, "2026-11-23T10:00:00.100Z"],
  ["none", { _time: "2026-11-23T10:00:00.1Z" }, undefined],
  ["no number", { _time: "2026-11-23T10:00:00.1Z", lag_ms: "x" }, undefined],
  ["no row's time", { lag_ms: "5" }, undefined],
] as const)("gives a line's own time: %s", (_, row, want) => expect(ownTime(row)).toBe(want));
it("keeps keys unique for equal lines", () => {
  const row = { _time: "t", _msg: "same" };
  expect(new Set(keyed([row, row, row]).map((k) => k.key)).size).toBe(3);
});

it.each([
  ['{"a":1}', '{\n  "a": 1\n}'],
  ["{not json", "{not json"],
  ["plain [x]", "plain [x]"],
  // As they were written: a number of JavaScript would change them.
  ['{"id":12345678901234567890,"t":1.50}', '{\n  "id": 12345678901234567890,\n  "t": 1.50\n}'],
  ['[{}, [], {"a, b":"x: \\"[y]\\""}]', '[\n  {},\n  [],\n  {\n    "a, b": "x: \\"[y]\\""\n  }\n]'],
  ["[".repeat(5000) + "]".repeat(5000), "[".repeat(5000) + "]".repeat(5000)],
])("expands %j", (text, want) => expect(expanded(text)).toBe(want));

it.each([
  ["timeout", ["timeout"]],
  ['"connection refused" level:error', ["connection refused"]],
  ["error -debug not trace warn*", ["error", "warn"]],
  ['status:>=500 and "a" or (x)', []],
  ["", []],
  ["oops | stats count()", ["oops"]],
  ["oops;", ["oops"]],
  ["options(concurrency=2) oops # it is", ["oops"]],
])("of %s the words %j are marked", (typed, want) => expect(wordsOf(typed)).toEqual(want));

it("cuts a text at the words, whatever they hold", () => {
  expect(pieces("a Timeout (x.y) timeout", ["timeout", "(x.y)"]).map((p) => (p.marked ? `[${p.text}]` : p.text)).join("")).toBe("a [Timeout] [(x.y)] [timeout]");
  expect(pieces("abc", [])).toEqual([{ text: "abc", marked: false }]);
});

describe("a policy on what is searched", () => {
  it.each<[string, Parameters<typeof policySearch>, Record<string, string>]>([
    ["everything", ["logs", {}, ""], { level: "log", query: "*" }],
    ["a workload's errors", ["logs", { cluster: "a", namespace: "b", workload_type: "deployment", workload: "c", pod: undefined }, "level:error | sort by (_time)"], { level: "log", cluster: "a", namespace: "b", workload_type: "deployment", workload: "c", query: "level:error" }],
    ["a pod, with alternatives", ["logs", { cluster: "a", namespace: "b", pod: "p" }, "x or y"], { level: "log", cluster: "a", namespace: "b", query: 'pod:="p" (x or y)' }],
    ["a query with a comment", ["logs", {}, "level:error # x"], { level: "log", query: "level:error" }],
    ["a query with options", ["logs", { pod: "p" }, "options(time_offset=1h) a"], { level: "log", query: 'options(time_offset=1h) pod:="p" a' }],
    ["a query with its end", ["logs", {}, "level:error;"], { level: "log", query: "level:error" }],
    ["a node's events", ["events", { cluster: "a", kind: "Node", name: "n" }, "", 'name:="n"'], { level: "event", cluster: "a", query: 'kind:="Node" name:="n" (name:="n")' }],
  ])("%s", (_, args, want) => expect(policySearch(...args)).toEqual(want));
});

it("tells what a pipe made by its fields", () => expect(message({ level: "error", n: "3" })).toBe("level=error  n=3"));
