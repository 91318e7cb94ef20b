import { describe, expect, it } from "vitest";
import type { Metric } from "@/api/types";
import { csv } from "@/parts/charts/model";
import { differing, linesOf, seriesName, unitOf } from "./model";

it.each([
  [{ __name__: "up" }, "up"],
  [{ __name__: "up", a: 'x"y' }, 'up{a="x\\"y"}'],
  [{}, "{}"],
])("names %j", (labels, want) => expect(seriesName(labels as Record<string, string>)).toBe(want));
it("finds the labels that differ", () => expect(differing([{ a: "1", b: "2" }, { a: "1", b: "3" }])).toEqual(["b"]));
it("draws those with the highest peaks, named by what differs", () => {
  const result = { times: [0, 1], stepSeconds: 1, series: [1, 9, 5].map((v) => ({ labels: { pod: `p${v}`, c: "x" }, values: [v, null] })) };
  const drawn = linesOf(result, 2);
  expect([drawn.lines.map((l) => l.name), drawn.left]).toEqual([["p9", "p5"], 1]);
});
describe("unitOf", () => {
  const catalogue = [{ name: "k8s_mem", unit: "B" }, { name: "k8s_cpu", unit: "cores" }] as Metric[];
  it.each([
    ["sum(k8s_mem)", "B"],
    ["count(k8s_mem)", ""],
    ["k8s_mem / 1024", ""],
    ["k8s_mem + k8s_cpu", ""],
    ["k8s_memory", ""],
  ])("of %s is %j", (q, want) => expect(unitOf(q, catalogue)).toBe(want));
});
it("writes CSV that any sheet reads", () => expect(csv([0], [{ name: 'a,"b', values: [null] }, { name: "c", values: [1.5] }])).toBe('time,"a,""b",c\n1970-01-01T00:00:00.000Z,,1.5\n'));
