import { describe, expect, it } from "vitest";
import type { Container, Node, Pod, Workload } from "@/api/types";
import { containerState, nodeSentence, nodeState, percentTone, podSentence, podState, podWord, shortPodName, workloadSentence, workloadState } from "./model";

const none = { cpu_cores: 0, has_cpu: false, memory_bytes: 0, has_memory: false };
const now = Date.parse("2026-11-23T10:00:00Z") / 1000;

const pod = (p: Partial<Pod>): Pod => ({
  namespace: "shop", name: "cart-1", uid: "u", workload_type: "deployment", workload: "cart", phase: "Running", ready: true, restarts: 0, created_at: "2026-11-23T08:00:00Z", host_network: false,
  cpu_cores: null, cpu_limit_percent: null, mem_bytes: null, mem_limit_percent: null, containers: [], requests: none, limits: none, ...p,
});
const container = (c: Partial<Container>): Container => ({ name: "app", state: "running", ready: true, restart_count: 0, requests: none, limits: none, ...c });
const workload = (w: Partial<Workload>): Workload => ({
  namespace: "shop", type: "deployment", name: "cart", uid: "u", desired: 3, ready: 3, updated: 3, abnormal: 0, images: [], created_at: "2026-11-23T08:00:00Z", cpu_cores: null, mem_bytes: null, restarts_1h: null, ...w,
});
const node = (n: Partial<Node>): Node => ({
  name: "n-1", uid: "u", created_at: "2026-11-23T08:00:00Z", ready: true, capacity: none, allocatable: none, conditions: [], roles: [], cpu_percent: null, mem_percent: null, pods: 20, restarts_1h: null, reasons: [], ...n,
});

describe("a pod", () => {
  it.each([
    ["running and ready", {}, "ok", "Running"],
    ["not ready", { ready: false }, "warning", "Not ready"],
    ["crash-looping", { ready: false, reason: "CrashLoopBackOff" }, "critical", "CrashLoopBackOff"],
    ["just starting", { phase: "Pending", ready: false, reason: "ContainerCreating" }, "waiting", "ContainerCreating"],
    ["unschedulable", { phase: "Pending", ready: false, reason: "Unschedulable" }, "critical", "Unschedulable"],
    ["done", { phase: "Succeeded", ready: false, reason: "Completed" }, "idle", "Completed"],
    ["evicted", { phase: "Failed", ready: false, reason: "Evicted" }, "critical", "Evicted"],
    ["of a lost node", { phase: "Unknown" }, "stale", "Unknown"],
    ["on its way out", { terminating: true, ready: false }, "idle", "Terminating"],
  ] as const)("%s", (_, p, state, word) => expect([podState(pod(p)), podWord(pod(p))]).toEqual([state, word]));

  it("is told in a sentence", () => {
    expect(podSentence(pod({ restarts: 2 }), now)).toBe("Running and ready, 2 h old; its containers restarted 2 times.");
    expect(podSentence(pod({ ready: false, reason: "CrashLoopBackOff", containers: [container({ state: "waiting", reason: "CrashLoopBackOff", ready: false })] }), now)).toBe(
      "Not ready: app is waiting (CrashLoopBackOff); 2 h old.",
    );
  });
});

it.each([
  [{}, "ok"],
  [{ ready: false }, "warning"],
  [{ state: "terminated", reason: "Completed" }, "idle"],
  [{ state: "terminated", reason: "OOMKilled" }, "critical"],
  [{ state: "waiting", reason: "ImagePullBackOff" }, "critical"],
  [{ state: "waiting", reason: "PodInitializing" }, "waiting"],
] as const)("container %j is %s", (c, state) => expect(containerState(container(c))).toBe(state));

it.each([
  [{}, "ok", "All 3 replicas are ready."],
  [{ desired: 1, ready: 1 }, "ok", "Its one replica is ready."],
  [{ desired: 0, ready: 0 }, "idle", "Scaled to zero."],
  [{ ready: 2, abnormal: 1, reason: "CrashLoopBackOff", restarts_1h: 4 }, "warning", "2 of 3 replicas are ready: CrashLoopBackOff; 4 container restarts in the last hour."],
  [{ ready: 0, abnormal: 3 }, "critical", "0 of 3 replicas are ready."],
] as const)("workload %j is %s", (w, state, sentence) => expect([workloadState(workload(w)), workloadSentence(workload(w), [])]).toEqual([state, sentence]));

it("tells a node's state", () => {
  expect(nodeState(node({}))).toBe("ok");
  expect(nodeState(node({ unschedulable: true }))).toBe("idle");
  expect(nodeState(node({ conditions: [{ type: "DiskPressure", status: "True", since: "" }] }))).toBe("warning");
  const lost = node({ ready: false, conditions: [{ type: "Ready", status: "Unknown", reason: "NodeStatusUnknown", since: "2026-11-23T09:48:00Z" }] });
  expect(nodeState(lost)).toBe("critical");
  expect(nodeSentence(lost, now)).toBe("Not ready for 12 min (NodeStatusUnknown); 20 pods on it.");
});

it.each([
  [null, undefined],
  [79.9, undefined],
  [80, "warning"],
  [95, "critical"],
] as const)("%s per cent is %s", (v, tone) => expect(percentTone(v)).toBe(tone));

it.each([
  ["cart-7c9f8d7b6c-x2k4d", "cart", "7c9f8d7b6c-x2k4d"],
  ["redis-0", "redis", "0"],
  ["cart-7c9f8d7b6c-x2k4d", undefined, "7c9f8d7b6c-x2k4d"],
  ["lonely", undefined, "lonely"],
])("short name of %s of %s is %s", (name, workload, short) => expect(shortPodName(name, workload)).toBe(short));
