import { expect, it } from "vitest";
import type { Incident } from "@/api/types";
import { changes, changeWords } from "./changed";

const now = Date.parse("2026-11-23T10:00:00Z") / 1000;
const event = (minutesAgo: number, reason: string, name: string) => ({ _time: new Date((now - minutesAgo * 60) * 1000).toISOString(), reason, name, kind: "Deployment", cluster: "c" });
const incident = (id: string, startedMinutesAgo: number, endedMinutesAgo?: number) =>
  ({ id, title: id, cluster: { id: "c", name: "C" }, severity: "warning", started_at: new Date((now - startedMinutesAgo * 60) * 1000).toISOString(), ended_at: endedMinutesAgo === undefined ? null : new Date((now - endedMinutesAgo * 60) * 1000).toISOString() }) as Incident;

it("tells changes and incidents of the last hour, the newest first, each once", () =>
  expect(
    changes([event(5, "RolloutStarted", "cart"), event(5, "RolloutStarted", "cart"), event(3, "Scaled", "web"), event(90, "Scaled", "old")], [incident("a", 70, 4), incident("b", 2), incident("c", 300, 200)], now).map((c) => `${c.kind} ${c.incident?.id ?? c.row?.name ?? ""}`),
  ).toEqual(["incident b", "scaled web", "resolved a", "rollout cart"]));
it("leaves out what has no time", () => expect(changes([{ reason: "Scaled" }], [], now)).toEqual([]));
it.each([
  [{ _msg: "New size: 3; reason: cpu", workload: "cart", name: "cart-hpa" }, "cart: New size: 3; reason: cpu"],
  [{ _msg: "Deployment shop/cart was scaled from 2 to 3", workload: "cart" }, "Deployment shop/cart was scaled from 2 to 3"],
  [{ _msg: "Node is ready", kind: "Node", name: "n-1" }, "n-1: Node is ready"],
  [{ _msg: "", kind: "Node", name: "n-1" }, "Node n-1"],
])("says whose change %j is", (row, want) => expect(changeWords({ _time: "2026-01-01T00:00:00Z", ...row })).toBe(want));
