import type { Container } from "@/api/types";
import { age } from "@/ui/format";

/** How the instance before this one ended: "OOMKilled (137), 12 min ago". */
export function lastWords(c: Container, nowSeconds: number): string {
  if (!c.last) return "";
  return `${c.last.reason || "ended"} (${c.last.exit_code}), ${age(c.last.finished_at, nowSeconds)} ago`;
}

export function containerKind(c: Container): string {
  if (c.sidecar === true) return "(sidecar)";
  return c.init === true ? "(init)" : "";
}
