import type { Cluster, Container, Node, Pod, Usage, Workload } from "@/api/types";
import { age, instant, plural } from "@/ui/format";
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
  return [...(n.ready ? [] : ["not ready"]), ...(n.unschedulable === true ? ["cordoned"] : [])];
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
  if (p.terminating === true) return "Terminating";
  if (p.reason !== undefined && p.reason !== "") return p.reason;
  if (p.phase === "Running" && !p.ready) return "Not ready";
  return p.phase;
}

export function containerState(c: Container): State {
  if (c.state === "running") return c.ready || c.init === true ? "ok" : "warning";
  if (c.state === "terminated") return c.reason === "Completed" ? "idle" : "critical";
  return harmless.has(c.reason ?? "") || c.reason === "ContainerCreating" || c.reason === "PodInitializing" ? "waiting" : "critical";
}

export function workloadSentence(w: Workload, pods: readonly Pod[] | undefined): string {
  const restarts = Math.round(w.restarts_1h ?? 0);
  const tail = restarts > 0 ? `; ${plural(restarts, "container restart")} in the last hour` : "";
  if (w.abnormal > 0) {
    const bad = pods?.find((p) => podState(p) === "critical");
    const why = w.reason !== undefined && w.reason !== "" ? w.reason : bad ? `${bad.name}: ${podWord(bad)}` : "";
    return `${w.ready} of ${w.desired} replicas are ready${why === "" ? "" : `: ${why}`}${tail}.`;
  }
  if (w.desired === 0) return `Scaled to zero${tail}.`;
  return `${w.desired === 1 ? "Its one replica is" : `All ${w.desired} replicas are`} ready${tail}.`;
}

export function podSentence(p: Pod, nowSeconds: number): string {
  const state = podState(p);
  const since = age(p.created_at, nowSeconds);
  const restarts = p.restarts > 0 ? `; its containers restarted ${p.restarts === 1 ? "once" : `${p.restarts.toLocaleString("en")} times`}` : "";
  if (state === "ok") return `Running and ready, ${since} old${restarts}.`;
  const bad = p.containers.find((c) => containerState(c) === "critical");
  const why = bad ? `${bad.name} is ${bad.state}${bad.reason !== undefined && bad.reason !== "" ? ` (${bad.reason})` : ""}` : podWord(p);
  if (state === "idle") return `${podWord(p)}, ${since} old${restarts}.`;
  return `Not ready: ${why}; ${since} old${restarts}.`;
}

export function nodeSentence(n: Node, nowSeconds: number): string {
  if (n.ready) {
    const reasons = nodeReasons(n);
    return `Ready with ${plural(n.pods, "pod")}${reasons.length > 0 ? `; ${reasons.join(", ")}` : ""}.`;
  }
  const ready = n.conditions.find((c) => c.type === "Ready");
  const since = ready ? ` for ${age(ready.since, nowSeconds)}` : "";
  const why = ready?.reason !== undefined && ready.reason !== "" ? ` (${ready.reason})` : "";
  return `Not ready${since}${why}; ${plural(n.pods, "pod")} on it.`;
}

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
