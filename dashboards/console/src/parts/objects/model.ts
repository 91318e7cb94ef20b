import type { Cluster, Container, Namespace, Node, Pod, Service, Usage, Workload } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { age, instant } from "@/ui/format";
import type { State } from "@/ui/state";

// What state an object is in, and the sentence that says so. Pure: the server's object in, words out.

export function nodeState(n: Node): State {
  if (!n.ready) return "critical";
  if (n.conditions.some((c) => c.type.endsWith("Pressure") && c.status === "True")) return "warning";
  return n.unschedulable === true ? "idle" : "ok";
}

/** What is to be said of a node beside its numbers, the worst first. */
export function nodeReasons(n: Node): string[] {
  if (n.reasons.length > 0) return [...n.reasons];
  return [...(n.ready ? [] : [m.words.notReadyNode]), ...(n.unschedulable === true ? [m.words.cordoned] : [])];
}

export function workloadState(w: Workload): State {
  if (w.abnormal > 0) return w.ready === 0 && w.desired > 0 ? "critical" : "warning";
  return w.desired === 0 ? "idle" : "ok";
}

const harmless = new Set(["Completed", "Succeeded", ""]);

export function podState(p: Pod): State {
  if (p.phase === "Succeeded") return "idle";
  if (p.phase === "Failed") return "critical";
  if (p.terminating === true) return "idle";
  if (p.phase === "Unknown") return "stale";
  if (p.phase === "Pending") return harmless.has(p.reason ?? "") || p.reason === "ContainerCreating" || p.reason === "PodInitializing" ? "waiting" : "critical";
  if (!p.ready) return harmless.has(p.reason ?? "") ? "warning" : "critical";
  return "ok";
}

/** One or two words for a pod: why it is not well, else its phase. */
export function podWord(p: Pod): string {
  if (p.terminating === true) return m.words.terminating;
  if (p.reason !== undefined && p.reason !== "") return p.reason;
  if (p.phase === "Running" && !p.ready) return m.words.notReady;
  return p.phase;
}

export function containerState(c: Container): State {
  if (c.state === "running") return c.ready || c.init === true ? "ok" : "warning";
  if (c.state === "terminated") return c.reason === "Completed" ? "idle" : "critical";
  return harmless.has(c.reason ?? "") || c.reason === "ContainerCreating" || c.reason === "PodInitializing" ? "waiting" : "critical";
}

export function namespaceState(n: Namespace): State {
  if (n.terminating === true) return "idle";
  return n.workloads.abnormal > 0 || n.not_ready > 0 ? "warning" : "ok";
}

/** Without a pod behind it, or without one that is ready, nobody is served. One without a selector cannot be judged. */
export function serviceState(s: Service): State {
  if (Object.keys(s.selector ?? {}).length === 0) return "idle";
  if (s.pods === 0) return "idle";
  return s.pods_ready === 0 ? "critical" : s.pods_ready < s.pods ? "warning" : "ok";
}

export function workloadSentence(w: Workload, pods: readonly Pod[] | undefined): string {
  const restarts = Math.round(w.restarts_1h ?? 0);
  if (w.abnormal > 0) {
    const bad = pods?.find((p) => podState(p) === "critical");
    const why = w.reason !== undefined && w.reason !== "" ? w.reason : bad ? `${bad.name}: ${podWord(bad)}` : "";
    return m.sentences.workloadBad(w.ready, w.desired, why, restarts);
  }
  return w.desired === 0 ? m.sentences.workloadZero(restarts) : m.sentences.workload(w.desired, restarts);
}

export function podSentence(p: Pod, nowSeconds: number): string {
  const state = podState(p);
  const since = age(p.created_at, nowSeconds);
  if (state === "ok") return m.sentences.pod(since, p.restarts);
  if (state === "idle") return m.sentences.podIdle(podWord(p), since, p.restarts);
  const bad = p.containers.find((c) => containerState(c) === "critical");
  return m.sentences.podBad(bad ? m.sentences.containerIs(bad.name, bad.state, bad.reason ?? "") : podWord(p), since, p.restarts);
}

export function containerSentence(c: Container, nowSeconds: number): string {
  const since = age(c.started_at, nowSeconds);
  if (c.state === "running") return c.ready || c.init === true ? m.sentences.containerRuns(since, c.restart_count) : m.sentences.containerNotReady(since, c.restart_count);
  if (c.state === "terminated") return m.sentences.containerEnded(c.reason || m.ended, c.restart_count);
  return m.sentences.containerWaits(c.reason ?? "", c.restart_count);
}

export const namespaceSentence = (n: Namespace): string =>
  `${m.sentences.namespace(n.workloads.abnormal, n.workloads.total, n.not_ready)}${n.terminating === true ? ` ${m.sentences.namespaceEnds}` : ""}`;

export const serviceSentence = (s: Service): string =>
  Object.keys(s.selector ?? {}).length === 0 ? m.sentences.serviceOutside : m.sentences.service(s.pods_ready, s.pods);

export function nodeSentence(n: Node, nowSeconds: number): string {
  if (n.ready) return m.sentences.node(n.pods, nodeReasons(n));
  const ready = n.conditions.find((c) => c.type === "Ready");
  return m.sentences.nodeNotReady(ready ? age(ready.since, nowSeconds) : "", ready?.reason ?? "", n.pods);
}

/** What an exit code over 128 means: the signal that ended the process. */
export const exitWords = (code: number): string => m.lastEnd.signals[code] ?? "";

/** Milliseconds since the epoch until when a cluster's data reaches, when that is too long ago. */
export function staleSince(c: Cluster | undefined): number | undefined {
  if (c?.state !== "stale") return undefined;
  const at = instant(c.last_seen_at);
  return at === undefined ? undefined : at * 1000;
}

/** Why a cluster does not have metrics, by the metric's name. */
export const lackingOf = (c: Cluster | undefined): ReadonlyMap<string, string> =>
  new Map((c?.unavailable ?? []).map((u) => [u.metric, u.reason]));

/** Which per cents deserve the eye: they are near or over what is there. */
export const percentTone = (v: number | null | undefined): "critical" | "warning" | undefined =>
  v === null || v === undefined || v < 80 ? undefined : v >= 95 ? "critical" : "warning";

const replicaSetHash = /-[a-z0-9]{8,10}-[a-z0-9]{5}$/;

/** The part of a pod's name that its workload's name does not say: "7c9f…-x2k4d" of "cart-7c9f-x2k4d". */
export function shortPodName(pod: string, workload: string | undefined): string {
  if (workload !== undefined && pod.startsWith(`${workload}-`)) return pod.slice(workload.length + 1);
  const hash = replicaSetHash.exec(pod);
  return hash ? hash[0].slice(1) : pod;
}

/** What is used of what is allocatable, in per cent; null when either is unknown. */
export const shareOf = ({ used, allocatable }: Usage): number | null =>
  used === null || allocatable === null || allocatable <= 0 ? null : (100 * used) / allocatable;
