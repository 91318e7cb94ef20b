import type { Alert } from "@/api/types";

/** An object as the why API takes it: shop/cart-1, shop/cart-1/app, shop/deployment/cart, n-1; empty for a cluster. */
export function whyObject(o: Readonly<Record<string, string | undefined>>, promql = false): string {
  const parts: Record<string, (string | undefined)[]> = {
    cluster: [],
    node: [o.node],
    namespace: [o.namespace],
    workload: [o.namespace, o.workload_type, o.workload],
    service: [o.namespace, o.service],
    pod: [o.namespace, o.pod],
    container: [o.namespace, o.pod, o.container],
    volume: [o.namespace, o.volume],
    component: [o.component],
  };
  const level = o.level ?? "";
  const text = (parts[level] ?? []).filter((p) => p !== undefined && p !== "").join("/");
  return promql ? `${level} ${text}`.trim() : text;
}

export const whyDimensions = (d: Readonly<Record<string, string>> | undefined): string => Object.entries(d ?? {}).map(([k, v]) => `${k}=${v}`).join(",");

export const ofPromql = (a: Alert): boolean => a.conditions.some((c) => c.expr !== undefined && c.expr !== "");
