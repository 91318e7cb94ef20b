import { describe, expect, it } from "vitest";
import type { Metric } from "@/api/types";
import { firstQuery, found, known, narrowed, queriesOf, remembered, toSearch } from "./model";

const metric = (name: string, level: string, more: Partial<Metric> = {}) => ({ name, title: name, level, unit: "%", kind: "gauge", help: "", ...more }) as Metric;

describe("queries in the URL", () => {
  it.each([
    [{}, [""]],
    [{ q: "up" }, ["up"]],
    [{ q: "up", q3: " 1 + 1 " }, ["up", "1 + 1"]],
    [{ q: "  " }, [""]],
  ])("%j asks %j", (search, want) => expect(queriesOf(search)).toEqual(want));

  it("come back as they went", () => expect(queriesOf(toSearch(["a", "", "b", "c"]))).toEqual(["a", "b", "c"]));
  it("leave no name of a query that is gone", () => expect(toSearch(["a"])).toEqual({ q: "a", q2: undefined, q3: undefined, q4: undefined, q5: undefined }));
});

describe("metrics that can be asked for", () => {
  const all = known([metric("k8s_pod_cpu", "pod"), metric("k8s_node_cpu", "node", { title: "CPU of node" })], ["k8s_pod_cpu", "http_seconds_bucket", "up"], { http_seconds: [{ type: "histogram", help: "Latency.", unit: "s" }] });

  it("are the catalogue, and then what else there is", () => expect(all.map((m) => [m.name, m.level])).toEqual([["k8s_pod_cpu", "pod"], ["k8s_node_cpu", "node"], ["http_seconds_bucket", "raw"], ["up", "raw"]]));
  it("of a family have its kind and words", () => expect(all[2]).toMatchObject({ kind: "histogram", help: "Latency.", unit: "s" }));
  it("are found by all words, in any order", () => expect(found(all, "node cpu", "", 10).levels.map((l) => l.level)).toEqual(["node"]));
  it("are found within a level", () => expect(found(all, "", "raw", 10).levels).toHaveLength(1));
  it("are bounded, and say how many are left", () => expect(found(all, "", "", 3).more).toBe(1));
});

it.each([
  [{ name: "a", level: "node", kind: "gauge" }, "a"],
  [{ name: "a", level: "pod", kind: "gauge" }, "topk(10, a)"],
  [{ name: "a", level: "pod", kind: "counter" }, "sum by (pod) (increase(a[1h])) > 0"],
  [{ name: "a", level: "raw", kind: "counter" }, "topk(10, rate(a[5m]))"],
])("asks first of %j: %s", (m, want) => expect(firstQuery({ title: "", unit: "", help: "", ...m })).toBe(want));

it("writes a value as PromQL does, whatever is in it", () => expect(narrowed("m", "pod", 'a"b\\c')).toBe('m{pod="a\\"b\\\\c"}'));

it("remembers each query once, the newest first", () => {
  expect(remembered(["b", "a"], "a")).toEqual(["a", "b"]);
  expect(remembered(["b", "a"], "c", 2)).toEqual(["c", "b"]);
  expect(remembered(["a"], "")).toEqual(["a"]);
});
