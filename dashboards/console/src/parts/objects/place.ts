import type { Incident } from "@/api/types";

/** The labels that name an object; with the cluster alone it is the cluster. */
// eslint-disable-next-line @typescript-eslint/consistent-type-definitions -- a type has the index that records of labels ask for
export type Place = {
  readonly cluster: string;
  readonly node?: string;
  readonly namespace?: string;
  readonly workload_type?: string;
  readonly workload?: string;
  readonly service?: string;
  readonly pod?: string;
  readonly container?: string;
};

const parts = ["node", "namespace", "workload_type", "workload", "service", "pod", "container"] as const;

/** Labels as PromQL and links take them: those that are given. */
export const placeLabels = (p: Place): Record<string, string> =>
  Object.fromEntries(Object.entries(p).filter((e): e is [string, string] => typeof e[1] === "string"));

/**
 * Incidents of an object, and of what is inside it. What an incident is about stands in its worst
 * alert's object and in the labels that it is grouped by; either may say less than the other, and a part
 * that neither says is no contradiction as long as one part is said.
 */
export function incidentsOf(incidents: readonly Incident[], place: Place): Incident[] {
  const wanted = parts.filter((p) => place[p] !== undefined);
  return incidents.filter((i) => {
    if (i.cluster.id !== place.cluster) return false;
    if (wanted.length === 0) return true;
    const object: Readonly<Record<string, unknown>> = { ...i.object };
    return wanted.every((p) => {
      const said = [object[p], i.labels[p]].filter((v) => typeof v === "string" && v !== "");
      return said.includes(place[p]);
    });
  });
}

/** The level of the catalogue that the object is of. */
export function levelOfPlace(p: Place): string {
  if (p.container !== undefined) return "container";
  if (p.pod !== undefined) return "pod";
  if (p.service !== undefined) return "service";
  if (p.workload !== undefined) return "workload";
  if (p.namespace !== undefined) return "namespace";
  return p.node !== undefined ? "node" : "cluster";
}

/**
 * Where the lines of an object are. No line names a Service: its lines are those of the workloads behind it,
 * as deployment/cart, which are found by their names when their pods are gone, too.
 */
export function lineScope(p: Place, behind: readonly string[] = []): { scope: Record<string, string>; fixed?: string } {
  if (levelOfPlace(p) !== "service") return { scope: placeLabels(p) };
  const terms = behind.map((ref) => {
    const [type = "", name = ""] = ref.split("/");
    return `(workload_type:=${JSON.stringify(type)} workload:=${JSON.stringify(name)})`;
  });
  return { scope: { cluster: p.cluster, namespace: p.namespace ?? "" }, fixed: terms.length === 0 ? "pod:in()" : terms.join(" or ") };
}

const escapeRegExp = (s: string): string => s.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Where the events of an object are: the fields that all have, and a filter for the rest. */
export function eventScope(p: Place): { scope: Record<string, string>; fixed?: string; withObject: boolean } {
  const level = levelOfPlace(p);
  if (level === "cluster") return { scope: { cluster: p.cluster }, withObject: true };
  if (p.node !== undefined) return { scope: { cluster: p.cluster, kind: "Node", name: p.node }, withObject: false };
  const scope = { cluster: p.cluster, namespace: p.namespace ?? "" };
  if (p.pod !== undefined) return { scope: { ...scope, kind: "Pod", name: p.pod }, withObject: false };
  if (p.service !== undefined) return { scope, fixed: `name:=${JSON.stringify(p.service)}`, withObject: true };
  if (p.workload !== undefined)
    // An event names the pod or the ReplicaSet: both begin with the workload's name.
    return { scope, fixed: `name:=${JSON.stringify(p.workload)} or name:~${JSON.stringify(`^${escapeRegExp(p.workload)}-`)}`, withObject: true };
  return { scope, withObject: true };
}
