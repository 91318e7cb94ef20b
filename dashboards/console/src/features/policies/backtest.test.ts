import { describe, expect, it } from "vitest";
import { lanes, longestSeconds, objectName, type Replay } from "./backtest";

const end = 1_795_428_000; // 2026-11-23T10:00:00Z
const inNamespace = (name: string, namespace: string) => `${name} in ${namespace}`;
const alert = (object: Record<string, string>, startedAt: string, endedAt: string | null, severity = "warning") => ({ object, startedAt, endedAt, severity, explanation: "", peak: 97, unit: "%" });
const replay = (incidents: unknown[], clusters = ["a"]): Replay => ({ clusters: clusters.map((cluster) => ({ cluster, interval: "30s" })), incidents }) as unknown as Replay;

describe("objectName", () => {
  it.each([
    [{ cluster: "a", namespace: "shop", pod: "cart-1" }, undefined, "cart-1 in shop"],
    [{ cluster: "a", namespace: "shop", pod: "cart-1", container: "app" }, undefined, "cart-1 app in shop"],
    [{ cluster: "a", node: "n-1" }, { mountpoint: "/var" }, "n-1 /var"],
    [{ cluster: "a", namespace: "shop" }, undefined, "shop"],
    [{ cluster: "a" }, undefined, "a"],
  ])("%j is %s %s", (object, dimensions, want) => expect(objectName(object, dimensions, inNamespace)).toBe(want));
});

describe("lanes", () => {
  const one = { startedAt: "2026-11-23T08:00:00Z", endedAt: "2026-11-23T08:30:00Z", alerts: [alert({ cluster: "a", node: "n-1" }, "2026-11-23T08:00:00Z", "2026-11-23T08:30:00Z")] };
  const two = {
    startedAt: "2026-11-23T09:00:00Z",
    endedAt: null,
    alerts: [alert({ cluster: "a", node: "n-2" }, "2026-11-23T09:00:00Z", null, "critical"), alert({ cluster: "a", node: "n-1" }, "2026-11-23T07:00:00Z", "2026-11-23T07:10:00Z")],
  };
  it("joins the alerts of an object, and puts what was bad longest first", () => {
    const found = lanes(replay([one, two]), end, inNamespace);
    expect(found.map((l) => [l.name, l.bars.length, l.seconds])).toEqual([
      ["n-2", 1, 3600],
      ["n-1", 2, 2400],
    ]);
    expect(found[1]?.bars.map((b) => b.from)).toEqual([end - 10_800, end - 7200]);
  });
  it("takes what did not end up to the end", () => expect(lanes(replay([two]), end, inNamespace)[0]?.bars[0]).toMatchObject({ open: true, to: end }));
  it("names the cluster where there are several", () => expect(lanes(replay([one], ["a", "b"]), end, inNamespace)[0]?.name).toBe("a n-1"));
  it("is empty where nothing happened", () => expect(lanes(replay([]), end, inNamespace)).toEqual([]));
  it("finds the longest incident", () => expect([longestSeconds(replay([one, two]), end), longestSeconds(replay([]), end)]).toEqual([3600, undefined]));
});
