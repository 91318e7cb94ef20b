import { describe, expect, it } from "vitest";
import type { Metric } from "@/api/types";
import { axisTop, drawnThrough, isolated, legendOrder, lines, panels, promql, resolutionWords, shortNames, statistics, withPast } from "./model";
import { lineStroke } from "./palette";

const metric = (m: Partial<Metric> & Pick<Metric, "name">): Metric => ({
  title: m.name,
  help: "",
  level: "pod",
  unit: "cores",
  kind: "gauge",
  core: true,
  dimensions: [],
  labels: [],
  place: "node",
  from: [],
  statistic: "avg",
  chart: { group: "cpu" },
  ...m,
});

const network = (name: string) => metric({ name, title: name, unit: "B/s", chart: { group: "network" } });

describe("panels", () => {
  const catalogue = [
    metric({ name: "ready", unit: "0/1", chart: { group: "ready", max: 1 } }),
    metric({ name: "cpu", title: "CPU used" }),
    network("in"),
    network("out"),
    metric({ name: "node_cpu", level: "node" }),
  ];
  it("puts a group's metrics together and names a panel of one by it", () =>
    expect(panels(catalogue, "pod").map((p) => `${p.title}: ${p.metrics.map((m) => m.name).join()}`)).toEqual(["ready: ready", "CPU used: cpu", "Network: in,out"]));
  it("orders, narrows and leaves out", () => {
    const groups = (c: Parameters<typeof panels>[2]) => panels(catalogue, "pod", c).map((p) => p.group);
    expect(groups({ first: ["network"] })).toEqual(["network", "ready", "cpu"]);
    expect(groups({ only: ["cpu"] })).toEqual(["cpu"]);
    expect(groups({ without: ["ready"] })).toEqual(["cpu", "network"]);
  });
  it("gives each resource an axis of its own", () => {
    const of = (name: string) => metric({ name, level: "node", unit: "count", dimensions: ["resource"], chart: { group: name } });
    const [cpu, memory] = panels([of("allocatable"), of("request")], "node");
    expect([cpu, memory].map((p) => `${p?.unit}: ${p?.metrics.map((m) => m.name).join()}`)).toEqual(["cores: allocatable,request", "B: allocatable,request"]);
    expect(promql(of("allocatable"), { node: "n" }, 60, [], memory?.only)).toBe('max by () (avg_over_time(allocatable{node="n",resource="memory"}[60s]))');
  });
  it("keeps different units apart", () => expect(panels([metric({ name: "a" }), metric({ name: "b", unit: "%" })], "pod")).toHaveLength(2));
});

describe("promql", () => {
  const object = { cluster: "c", pod: "p" };
  it.each([
    ["a gauge by its statistic", metric({ name: "cpu" }), [], 'max by () (avg_over_time(cpu{cluster="c",pod="p"}[60s]))'],
    ["dimensions and what it is split by", metric({ name: "fs", statistic: "max", dimensions: ["mountpoint"] }), ["pod"], 'max by (mountpoint, pod) (max_over_time(fs{cluster="c",pod="p"}[60s]))'],
    ["the worst of a yes or no", metric({ name: "ready", unit: "0/1", kind: "state", statistic: "max" }), [], 'max by () (min_over_time(ready{cluster="c",pod="p"}[60s]))'],
    [
      "the exact increase of a counter",
      metric({ name: "restarts", kind: "counter", statistic: "increase" }),
      [],
      'max by () (clamp_min(last_over_time(restarts{cluster="c",pod="p"}[60s]) - last_over_time(restarts{cluster="c",pod="p"}[300s] offset 60s), 0))',
    ],
  ])("asks for %s", (_, m, by, want) => expect(promql(m, object, 60, by)).toBe(want));
});

describe("lines", () => {
  const panel = { group: "network", title: "Network", unit: "B/s", metrics: [network("in"), network("out")] };
  const result = (labels: Record<string, string>, values: (number | null)[]) => ({ times: [0, 30], stepSeconds: 30, series: [{ labels, values }] });
  it("names lines by what tells them apart, and leaves out those without a value", () => {
    const drawn = lines(panel, [result({ pod: "a" }, [1, 2]), result({ pod: "a" }, [null, null])], 10);
    expect(drawn.lines.map((l) => l.name)).toEqual(["a"]);
    const both = lines(panel, [result({ pod: "a" }, [1, 2]), result({ pod: "a" }, [3, 4])], 10);
    expect(both.lines.map((l) => l.name)).toEqual(["a in", "a out"]);
  });
  it("leaves out an answer that is still of another range", () =>
    expect(lines(panel, [result({}, [1, 2]), { times: [90], stepSeconds: 30, series: [{ labels: {}, values: [1] }] }], 10).lines).toHaveLength(1));
  it("draws the highest and counts the rest", () => {
    const many = { times: [0], stepSeconds: 30, series: [1, 9, 5].map((v) => ({ labels: { pod: String(v) }, values: [v] })) };
    const drawn = lines({ ...panel, metrics: [network("in")] }, [many], 2);
    expect([drawn.lines.map((l) => l.name), drawn.left]).toEqual([["9", "5"], 1]);
  });
});

it("computes statistics of what is there", () => {
  expect(statistics([null, 2, 0, 4, null])).toEqual({ min: 0, avg: 2, max: 4, last: 4 });
  expect(statistics([null])).toEqual({ min: null, avg: null, max: null, last: null });
});
it("finds points without a neighbour", () => expect(isolated([1, null, 2, 3, null, 4])).toEqual([0, 5]));
it("shortens names by what they share", () => {
  expect(shortNames(["checkout-7c9f8d-aa", "checkout-7c9f8d-ab"])).toEqual(["…aa", "…ab"]);
  expect(shortNames(["worker-01", "worker-02"])).toEqual(["worker-01", "worker-02"]);
  expect(shortNames(["in", "out"])).toEqual(["in", "out"]);
  expect(shortNames(["cart-7c9-aa"])).toEqual(["cart-7c9-aa"]);
});
it.each([
  [null, 100, 100],
  [40, 100, 100],
  [250, 100, 270],
  [0, 0, 1],
  [10, 0, 10.8],
])("tops an axis of data up to %s and %s at %s", (data, catalogue, want) => expect(axisTop(data, catalogue)).toBeCloseTo(want));
it("holds lines against themselves at another time, on today's grid", () => {
  const line = (name: string, values: (number | null)[]) => ({ name, metric: "m", values });
  const both = withPast({ times: [100, 130], lines: [line("a", [1, 2]), line("new", [3, 4])] }, { times: [0, 30], lines: [line("a", [7, null]), line("gone", [9, 9])] }, 100, "a day before", "line");
  expect(both.slice(2)).toEqual([{ name: "a, a day before", metric: "m", past: { of: 0, when: "a day before" }, values: [7, null] }]);
});
it.each([
  { values: [1, null, 3, null, 5], want: [1, 2, 3, 4, 5], what: "every second" },
  { values: [1, null, 3, null, 5, null, null, null, 9], want: [1, 2, 3, 4, 5, null, null, null, 9], what: "and a gap" },
  { values: [1, 2, null, 4, 5], want: [1, 2, null, 4, 5], what: "each, and a gap" },
  { values: [null, 1, null], want: [null, 1, null], what: "one" },
  { values: [null, null], want: [null, null], what: "none" },
])("draws a time through that was measured seldom: $what", ({ values, want }) => expect(drawnThrough(values)).toEqual(want));
it("leaves the counts of another time as they are", () => {
  const line = (values: (number | null)[]) => ({ name: "restarts", metric: "m", values });
  const [, past] = withPast({ times: [100, 130, 160], lines: [line([0, 0, 1])] }, { times: [0, 30, 60], lines: [line([2, null, 2])] }, 100, "a day before", "bars");
  expect(past?.values).toEqual([2, null, 2]);
});
it("has each line of another time below its own in a legend, in its colour", () => {
  const line = (name: string) => ({ name, metric: "m", values: [1] });
  const lines = withPast({ times: [100], lines: [line("new"), line("b"), line("c")] }, { times: [0], lines: [line("c"), line("b")] }, 100, "a day before", "line");
  expect(legendOrder(lines).map((i) => lines[i]?.name)).toEqual(["new", "b", "b, a day before", "c", "c, a day before"]);
  expect(lineStroke(lines, 3, "light").colour.startsWith(lineStroke(lines, 1, "light").colour)).toBe(true);
});
it.each([
  [[{ readSeconds: 0 }], "average of each 12 h"],
  [[undefined, { readSeconds: 300 }, { readSeconds: 3600 }], "average of each 12 h, from 1 h values"],
])("says what a point stands for, and what it was read from: %j", (read, want) => {
  const results = read.map((r) => (r ? { times: [], stepSeconds: 43_200, series: [], ...r } : undefined));
  expect(resolutionWords(metric({ name: "cpu" }), 43_200, results)).toBe(want);
});
