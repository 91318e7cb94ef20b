import { expect, it } from "vitest";
import type { Cluster, Incident } from "@/api/types";
import { failingScrapes, overallState, overviewSentence, phaseParts, silentSources, troubleNames, worstFirst } from "./model";

const cluster = (name: string, state: Cluster["state"], over: Partial<Cluster> = {}): Cluster => ({
  id: name,
  name,
  kind: "managed",
  kind_reason: "",
  version: "v1.34.4",
  state,
  sentence: `${name} is ${state}`,
  last_seen_at: "2026-11-23T10:00:00Z",
  interval_seconds: 30,
  nodes: { total: 3, ready: 3 },
  workloads: { total: 40, abnormal: 0 },
  pods: {},
  cpu: { used: null, requested: null, allocatable: null },
  memory: { used: null, requested: null, allocatable: null },
  incidents: { critical: 0, warning: 0, info: 0 },
  unavailable: [],
  sources: [],
  ...over,
});
const incident = {} as Incident;

it("puts the worst cluster first", () => {
  const all = [cluster("a", "ok"), cluster("b", "stale"), cluster("c", "critical"), cluster("d", "warning"), cluster("e", "critical", { incidents: { critical: 2, warning: 0, info: 0 } })];
  expect(worstFirst(all).map((c) => c.name)).toEqual(["e", "c", "d", "b", "a"]);
  expect(overallState(all)).toBe("critical");
});

it.each([
  ["one cluster", [cluster("a", "warning")], [], "a: a is warning."],
  ["one cluster with an incident", [cluster("a", "ok")], [incident], "a: a is ok. 1 incident active."],
  ["all well", [cluster("a", "ok"), cluster("b", "ok")], [], "All 2 clusters are well."],
  ["some not", [cluster("a", "ok"), cluster("b", "critical")], [incident, incident], "1 of 2 clusters needs attention; worst is b: b is critical. 2 incidents active."],
  ["a silent one, which is not good", [cluster("a", "ok"), cluster("b", "stale")], [], "1 cluster is silent."],
])("says of %s", (_, clusters, incidents, want) => expect(overviewSentence(clusters, incidents)).toBe(want));

it("gives unknown and failed pods their tone", () =>
  expect(phaseParts({ running: 3, failed: 1 }).map((p) => `${p.name} ${p.n} ${p.tone ?? ""}`)).toEqual(["running 3 strong", "pending 0 warning", "failed 1 critical", "unknown 0 critical", "succeeded 0 quiet"]));

it("tells scrape targets that fail from sources that are silent", () => {
  const source = (name: string, up: boolean, measured: number, expected: number, error?: string) => ({ sender: "cluster", name, up, measured, expected, last_success_at: null, ...(error !== undefined && { error }) });
  const all = [
    cluster("a", "ok", { sources: [source("scrape/static", true, 1, 3, "2 of 3 targets"), source("scrape/monitors", true, 2, 3), source("scrape/refused", false, 0, 4, "4 cannot be scraped"), source("objects", false, 0, 0), source("cadvisor/n1", true, 3, 9)] }),
    cluster("b", "ok", { sources: [source("scrape/annotations", false, 0, 1, "1 of 1 targets"), source("events", true, 0, 0)] }),
  ];
  expect(failingScrapes(all).map((t) => [t.cluster.id, t.name, t.n])).toEqual([["a", "static", 2], ["a", "refused", 4], ["b", "annotations", 1]]);
  expect(silentSources(all).map((t) => [t.cluster.id, t.name, t.n])).toEqual([["a", "objects", 1]]);
  expect(troubleNames(failingScrapes(all), true)).toEqual(["static (a)", "refused (a)", "annotations (b)"]);
  expect(troubleNames(silentSources(all), false)).toEqual(["objects"]);
});
