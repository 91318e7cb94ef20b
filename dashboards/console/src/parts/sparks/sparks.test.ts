import { afterEach, expect, it, vi } from "vitest";
import { sparkKey, sparkPath, sparkQuery, SparkStore } from "./store";

const cpu = { metric: "k8s_pod_cpu_core_used", by: ["namespace", "pod"], narrow: "pod" } as const;

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("asks for many rows by one query, whatever they are called", () =>
  expect(sparkQuery(cpu, 'c"1', ["a.b", "x|y"], 60)).toBe('max by (namespace, pod) (avg_over_time(k8s_pod_cpu_core_used{cluster="c\\"1",pod=~"a\\\\.b|x\\\\|y"}[60s]))'));

it.each([
  [[0, 1], undefined, "M1.0,16.5L63.0,1.5"],
  [[1, null, 1], undefined, "M1.0,1.5h0.1M63.0,1.5h0.1"],
  [[50], 100, "M32.0,9.0h0.1"],
  [[], undefined, ""],
  [[0, 0], undefined, "M1.0,16.5L63.0,16.5"],
])("draws %j up to %s", (values, top, want) => expect(sparkPath(values, 64, 18, top)).toBe(want));

it("asks once for what comes into view together, and again for what is still in view", async () => {
  vi.useFakeTimers();
  const asked: string[] = [];
  vi.stubGlobal("fetch", (url: string) => {
    asked.push(new URL(url, "http://x").searchParams.get("query") ?? "");
    return Promise.resolve(new Response(JSON.stringify({ status: "success", data: { result: [{ metric: { namespace: "shop", pod: "a" }, values: [[60, "1"], [90, "2"]] }] } })));
  });
  const store = new SparkStore(cpu, "c", () => ({ start: 60, end: 120 }));
  const told = vi.fn();
  const a = sparkKey(["shop", "a"]);
  const b = sparkKey(["shop", "b"]);
  const leaveA = store.subscribe(a, told);
  store.subscribe(b, told);
  await vi.advanceTimersByTimeAsync(100);
  expect(asked).toHaveLength(1);
  expect(asked[0]).toContain('"a|b"');
  expect([store.get(a), store.get(b)]).toEqual([[1, 2, null], []]);
  expect(told).toHaveBeenCalledTimes(2);
  leaveA();
  store.refresh();
  await vi.advanceTimersByTimeAsync(100);
  expect(asked).toHaveLength(2);
  expect(asked[1]).toContain('=~"b"');
});
