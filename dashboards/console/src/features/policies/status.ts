import type { Policy } from "@/api/types";
import { policies as m } from "@/i18n/policies";
import { server } from "@/i18n/server";
import type { State } from "@/ui/state";
import { dict, isDict, list, str } from "./model";

/** Problems that the server reports in a policy's status: "not evaluated on edge-3: interval is 60 s". */
export function problems(p: Policy): string[] {
  const status = dict(p.status);
  const found: string[] = [];
  for (const key of ["problems", "warnings", "errors", "reasons"]) {
    for (const v of list(status[key])) {
      if (isDict(v)) found.push([str(v.cluster), server.alert(str(v.reason) || str(v.message))].filter(Boolean).join(": "));
      else if (str(v) !== "") found.push(server.alert(str(v)));
    }
  }
  for (const key of ["error", "lastError", "last_error", "message"]) if (str(status[key]) !== "") found.push(str(status[key]));
  return found;
}

const enabled = (p: Policy): boolean => dict(p.spec).enabled !== false;

const number = (p: Policy, ...names: string[]): number => {
  const status = dict(p.status);
  for (const n of names) {
    const v = status[n];
    if (typeof v === "number") return v;
  }
  return 0;
};

export const firing = (p: Policy): number => number(p, "firing", "alerts");
export const matching = (p: Policy): number => number(p, "matching", "objects", "selected");

export function policyState(p: Policy): State {
  if (!enabled(p)) return "idle";
  if (firing(p) > 0) return "warning";
  return problems(p).length > 0 ? "stale" : "ok";
}

export function policyWord(p: Policy): string {
  if (!enabled(p)) return m.state.disabled;
  const n = firing(p);
  if (n > 0) return m.state.firing(n);
  return problems(p).length > 0 ? m.state.gap : m.state.watching;
}
