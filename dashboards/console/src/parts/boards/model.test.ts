import { describe, expect, it } from "vitest";
import type { Metric } from "@/api/types";
import { type Board, type BoardPanel, changed, chartPanel, drawn, exported, imported, lastChanged, moved, nameOf, without } from "./model";

const metric = (name: string, m: Partial<Metric> = {}): Metric => ({ name, title: name, help: "", level: "node", unit: "%", kind: "gauge", core: true, dimensions: [], labels: [], place: "node", from: [], statistic: "avg", chart: { group: "cpu" }, ...m });
const panel = (title: string): BoardPanel => ({ title, kind: "logs", query: "error" });
const board: Board = { apiVersion: "crowsnest.dev/v1", kind: "Board", metadata: { name: "shop", id: "brd_1", revision: 7, createdAt: "2026-11-23T09:00:00Z" }, spec: { title: "Shop", panels: [panel("a")] } };

it.each([
  ["My shop!", [], "my-shop"],
  ["My shop!", ["my-shop", "my-shop-2"], "my-shop-3"],
  ["店铺 🦅", [], "board"],
  ["x".repeat(80), [], "x".repeat(58)],
])("names a board %s", (title, taken, want) => expect(nameOf(title, taken)).toBe(want));

describe("a chart", () => {
  const of = metric("k8s_node_request", { unit: "count", dimensions: ["resource"] });
  it("comes back as it was pinned", () => {
    const pinned = chartPanel("Memory", { group: "g", title: "Memory", unit: "B", metrics: [of], only: { resource: "memory" } }, { cluster: "c", node: "n" }, []);
    expect(pinned).toEqual({ title: "Memory", kind: "chart", metrics: ["k8s_node_request"], object: { cluster: "c", node: "n", resource: "memory" } });
    expect(drawn(pinned, [of])).toEqual({ panel: { group: "Memory", title: "Memory", unit: "B", metrics: [of], only: { resource: "memory" } }, object: { cluster: "c", node: "n" } });
  });
  it("of metrics that the catalogue does not have cannot be drawn", () => expect(drawn({ title: "x", kind: "chart", metrics: ["gone"] }, [of])).toBeUndefined());
});

it("moves, changes and removes panels", () => {
  const all = ["a", "b", "c"].map(panel);
  const titles = (p: readonly BoardPanel[]) => p.map((x) => x.title).join("");
  expect([titles(moved(all, 0, 1)), titles(moved(all, 0, -1)), titles(moved(all, 2, -1)), titles(without(all, 1)), titles(changed(all, 2, { title: "z" }))]).toEqual(["bac", "abc", "acb", "ac", "abz"]);
});

describe("a file", () => {
  it("holds what was written and nothing of the server it came from, and comes back under a free name", () => {
    const file = exported(board);
    expect(file).not.toMatch(/brd_1|revision|createdAt/);
    expect(imported(file, ["shop"])).toEqual({ apiVersion: "crowsnest.dev/v1", kind: "Board", metadata: { name: "shop-2" }, spec: board.spec });
  });
  it.each(["", "{", "[]", "null", '{"kind":"Policy","spec":{}}'])("of something else is refused: %s", (text) => expect(() => imported(text, [])).toThrow(/no JSON|no board/));
});

it("takes the board that was changed last", () => {
  const at = (name: string, updatedAt?: string): Board => ({ ...board, metadata: { name, ...(updatedAt === undefined ? {} : { updatedAt }) } });
  expect(lastChanged([at("a", "2026-11-23T09:00:00Z"), at("b", "2026-11-23T11:00:00Z"), at("c", "2026-11-23T10:00:00Z"), at("d")])?.metadata.name).toBe("b");
  expect(lastChanged([])).toBeUndefined();
});
