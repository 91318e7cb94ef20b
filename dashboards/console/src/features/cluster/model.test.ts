import { expect, it } from "vitest";
import type { ClusterSource } from "@/api/types";
import { knowsItsObjects, sourceState } from "./model";

const source = (change: Partial<ClusterSource>): ClusterSource => ({
  sender: "node/n1",
  name: "cadvisor/n1",
  up: true,
  last_success_at: "2026-11-23T20:00:00Z",
  error: "",
  expected: 20,
  measured: 20,
  ...change,
});

it.each([
  ["tells of all", {}, "ok"],
  ["tells of all but one", { measured: 19 }, "warning"],
  ["tells of nothing that it should", { measured: 0 }, "warning"],
  ["has nothing to tell of", { measured: 0, expected: 0 }, "ok"],
  ["does not answer", { up: false, error: "connection refused" }, "critical"],
  ["answers, and went blind", { up: false, measured: 0, error: "it tells of none of 20 running containers" }, "critical"],
] as const)("shows a source that %s", (_, change, want) => {
  expect(sourceState(source(change))).toBe(want);
});

it("knows its objects once they are listed", () => {
  expect(knowsItsObjects({ sources: [] })).toBe(false);
  expect(knowsItsObjects({ sources: [source({ name: "objects", up: false }), source({ name: "objects/pod" })] })).toBe(false);
  expect(knowsItsObjects({ sources: [source({ name: "objects" })] })).toBe(true);
});
