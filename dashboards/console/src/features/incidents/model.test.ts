// @vitest-environment jsdom
import { describe, expect, it } from "vitest";
import type { Alert } from "@/api/types";
import { type AlertCondition, alertLabels, comparedWords, counted, countQuery, countStep, evidenceRange, judgedSeconds, ofObject } from "./model";

const alert = (object: Partial<Alert["object"]>, rest: Partial<Alert> = {}) => ({ object: { level: "pod", cluster: "c", ...object }, dimensions: {}, ...rest }) as Alert;

describe("the labels that name an alert's object", () => {
  it.each([
    [{ level: "volume", namespace: "shop", volume: "data" }, { cluster: "c", namespace: "shop", persistentvolumeclaim: "data" }],
    [{ level: "service", namespace: "shop", service: "cart" }, { cluster: "c", namespace: "shop", service: "cart" }],
    [{ level: "component", component: "etcd" }, { cluster: "c", component: "etcd" }],
    [{ level: "pod", namespace: "shop", pod: "cart-1", node: "n-1", workload: "cart" }, { cluster: "c", namespace: "shop", pod: "cart-1" }],
  ] as const)("of %j", (object, want) => expect(alertLabels(alert(object))).toEqual(want));
});

describe("what an expression gives for one object", () => {
  it("is all of it for a cluster", () => expect(ofObject("sum(up)", { cluster: "c" })).toBe("sum(up)"));
  it("is found by the labels of the result", () =>
    expect(ofObject("a > 1 or b", { cluster: "c", namespace: "shop", pod: "cart-1" })).toBe(
      '(a > 1 or b) and on (namespace, pod) label_replace(label_replace(vector(1), "namespace", "shop", "", ""), "pod", "cart-1", "", "")',
    ));
  it("takes any name and value", () => expect(ofObject("a", { "k8s.pod": '$1 "x"' })).toBe('(a) and on ("k8s.pod") label_replace(vector(1), "k8s.pod", "$$1 \\"x\\"", "", "")'));
});

it("says what a condition compares when it is not what its metric's chart shows", () => {
  const words = (c: Partial<AlertCondition>) => comparedWords({ metric: "m", statistic: "avg", period: "5m", ...c } as AlertCondition, 60);
  expect(words({})).toBe("");
  expect(words({ change: { against: "1d", as: "percent" } })).toBe("compared with 1 d before in per cent");
  expect(words({ change: { against: "1h" } })).toBe("compared with 1 h before");
  expect(words({ forecast: { within: "4h" } })).toBe("as forecast for 4 h ahead");
  expect(words({ statistic: "increase" })).toBe("as its increase in 5 min");
  expect(words({ statistic: "increase", period: "1m" })).toBe("");
});

describe("what a condition counts", () => {
  it("is asked for about the object alone", () =>
    expect(countQuery(alert({ level: "workload", namespace: "shop", workload_type: "deployment", workload: "cart" }), "error # all", "logs", 60)).toBe(
      'cluster:="c" namespace:="shop" workload_type:="deployment" workload:="cart" -stream:="events" (error) | stats by (_time:60s) count() n',
    ));
  it("is as many events as occurred", () =>
    expect(countQuery(alert({ level: "namespace", namespace: "shop" }), "*;", "events", 300)).toBe('cluster:="c" namespace:="shop" stream:="events" (*) | stats by (_time:300s) count() rows, count(occurrences) told, sum(occurrences) n'));
  it("stands at the end of its step, and is none where nothing was", () =>
    expect(counted([{ _time: "1970-01-01T00:02:00Z", rows: "3", told: "1", n: "7" }, { _time: "1970-01-01T00:00:00Z", rows: "2", told: "0", n: "NaN" }, { _time: "1970-01-01T09:00:00Z", n: "1" }], 0, 180, 60)).toEqual({
      times: [60, 120, 180],
      values: [2, 0, 9],
    }));
  it.each([
    [60, 3600, 60],
    [60, 86_400, 360],
    [300, 60, 300],
  ])("for periods of %d s over %d s has steps of %d s", (period, length, want) => expect(countStep(period, length)).toBe(want));
});

it("shows as much before an incident as was judged", () => {
  const judged = judgedSeconds(alert({}, { conditions: [{ period: "1h", of: 3 }, { period: "5m", of: 1 }] as Alert["conditions"] }));
  expect(evidenceRange("2026-03-01T12:00:00Z", "2026-03-01T12:10:00Z", judged)).toEqual({ from: "2026-03-01T06:00:00Z", to: "2026-03-01T15:10:00Z" });
});
