import { describe, expect, it } from "vitest";
import type { Metric } from "@/api/types";
import { type Condition, conditionOf, conditionQuery, type Draft, draftProblems, globRegex, newDraft, newLinesDraft, objectLevel, parseQuantity, quantityText, severityOf, suggestName, withGroup, withLines, withMetric, withObjects, withThreshold } from "./draft";
import { diff, draftText, readText } from "./text";

const metric = (m: Partial<Metric>): Metric => ({ name: "k8s_x", title: "CPU of limit", help: "", level: "pod", unit: "%", kind: "gauge", core: true, dimensions: [], labels: [], place: "node", from: [], statistic: "avg", chart: { group: "cpu" }, ...m });
const condition = (c: Partial<Condition>): Condition => ({ metric: "k8s_x", statistic: "avg", period: "1m", op: ">", thresholds: { warning: 80, critical: 95 }, ...c });

describe("parseQuantity", () => {
  it.each([
    ["90", "%", 90],
    ["90 %", "%", 90],
    ["1,5", "cores", 1.5],
    ["250m", "cores", 0.25],
    ["512Mi", "B", 512 * 1024 ** 2],
    ["1.5 GiB", "B", 1.5 * 1024 ** 3],
    ["1 GB", "B", 1024 ** 3],
    ["20 MB/s", "B/s", 20e6],
    ["-3", "count", -3],
    ["ten", "%", undefined],
    ["5 MB", "%", undefined],
    ["", "%", undefined],
  ])("reads %j of %s as %s", (text, unit, want) => expect(parseQuantity(text, unit)).toBe(want));
  it.each([
    [512 * 1024 ** 2, "B"],
    [1.25 * 1024 ** 3, "B"],
    [20e6, "B/s"],
    [1234567, "B"],
    [0.25, "cores"],
    [0, "B"],
  ])("reads what it writes of %s %s", (value, unit) => expect(parseQuantity(quantityText(value, unit), unit)).toBe(value));
});


it("makes a glob a regular expression, and nothing else of it", () => expect(globRegex("a.b-*?(x)")).toBe("a\\.b-.*.\\(x\\)"));

describe("conditionQuery", () => {
  const spec = (s: Partial<Draft["spec"]>): Draft["spec"] => ({ level: "pod", conditions: [], ...s });
  it.each([
    ["everything of a level", spec({}), condition({}), "max by (cluster, namespace, pod) (avg_over_time(k8s_x{}[1m]))"],
    [
      "names exactly and globs as expressions",
      spec({ clusters: { names: ["prod-*"] }, objects: { namespaces: ["shop"], exclude: { namespaces: ["a", "b"] } } }),
      condition({ statistic: "p95", period: "5m" }),
      'max by (cluster, namespace, pod) (quantile_over_time(0.95, k8s_x{cluster=~"prod-.*",namespace="shop",namespace!~"a|b"}[5m]))',
    ],
    [
      "each workload pattern by itself",
      spec({ objects: { workloads: ["deployment/cart", "statefulset/*"] } }),
      condition({ statistic: "max" }),
      'max by (cluster, namespace, pod) (max_over_time(k8s_x{workload_type="deployment",workload="cart"}[1m]) or max_over_time(k8s_x{workload_type="statefulset",workload=~".*"}[1m]))',
    ],
    ["exact increases", spec({}), condition({ statistic: "increase" }), "max by (cluster, namespace, pod) (clamp_min(last_over_time(k8s_x{}[1m]) - last_over_time(k8s_x{}[5m] offset 1m), 0))"],
  ])("asks for %s", (_, s, c, want) => expect(conditionQuery(s, c, metric({}))).toBe(want));
  it("keeps dimensions apart and narrows by them", () =>
    expect(conditionQuery(spec({ level: "node" }), condition({ where: { mountpoint: ["/var*"] } }), metric({ level: "node", dimensions: ["mountpoint"] }))).toBe(
      'max by (cluster, node, mountpoint) (avg_over_time(k8s_x{mountpoint=~"/var.*"}[1m]))',
    ));
});

describe("a draft", () => {
  const node = metric({ name: "k8s_node", level: "node" });
  it("starts from the catalogue's own condition", () =>
    expect(conditionOf(metric({ alert: { statistic: "max", op: "==", threshold: 0, period_seconds: 300, need: 2, of: 3, severity: "critical" } }))).toEqual({ metric: "k8s_x", statistic: "max", period: "5m", op: "==", thresholds: { critical: 0 }, need: 2, of: 3 }));
  it("drops what a metric of another level cannot choose by", () => {
    const draft = newDraft(metric({}), { namespaces: ["shop"], workloads: ["deployment/cart"] }, ["c"]);
    expect(withMetric(draft, 0, node).spec).toEqual({ enabled: true, level: "node", clusters: { names: ["c"] }, conditions: [conditionOf(node)] });
  });
  it("leaves an empty selection out", () => expect(withObjects(newDraft(metric({}), { namespaces: ["a"] }, []), { namespaces: [] }).spec.objects).toBeUndefined());
  it("takes a threshold away", () => expect(withThreshold(condition({}), "thresholds", "warning", undefined).thresholds).toEqual({ critical: 95 }));
  it("is named after what it says, and like no other", () => expect(suggestName({ level: "pod", conditions: [], objects: { namespaces: ["shop"] } }, metric({}), ["shop-pod-cpu-of-limit"])).toBe("shop-pod-cpu-of-limit-2"));
  it("says what is missing", () => expect(draftProblems({ ...newDraft(metric({}), undefined, []), name: "Bad Name" })).toHaveLength(2));
  it.each([
    [81, "warning"],
    [95, "warning"],
    [95.1, "critical"],
    [80, undefined],
  ])("judges %s as %s", (v, want) => expect(severityOf(condition({}), v)).toBe(want));
});

describe("the text view", () => {
  const draft: Draft = { name: "a", labels: { team: "x" }, revision: 3, spec: { level: "pod", conditions: [condition({})], minAge: "2m" } };
  it("reads back what it wrote, what the form does not know included", () => {
    const read = readText(draftText(draft), draft);
    expect("draft" in read && read.draft).toEqual(draft);
  });
  it.each([
    ["kind: [", "Line 1"],
    ["just words", "mapping"],
    ["metadata: {name: b}\nspec: {level: pod, conditions: [{}]}", "stays “a”"],
    ["metadata: {name: a}\nspec: {level: pod}", "conditions"],
  ])("says what is wrong with %j", (text, want) => {
    const read = readText(text, draft);
    expect("problem" in read ? read.problem : "").toContain(want);
  });
});

it("tells two texts apart by lines", () => expect(diff("a\nb\nc", "a\nx\nc\nd").map((l) => `${l.kind[0] ?? ""}${l.text}`)).toEqual(["sa", "rb", "ax", "sc", "ad"]));

describe("a policy that counts lines", () => {
  const lines = newLinesDraft("log", 'level:="error"', { namespaces: ["shop"], workloads: ["deployment/cart"] }, ["prod"]);

  it("begins with a query, a count and the place that was looked at", () => {
    expect(lines.spec).toMatchObject({ level: "log", clusters: { names: ["prod"] }, objects: { namespaces: ["shop"], workloads: ["deployment/cart"] }, conditions: [{ query: 'level:="error"', groupBy: "workload", op: ">", period: "5m" }] });
    expect(objectLevel(lines.spec)).toBe("workload");
    expect(suggestName(lines.spec, undefined, [])).toBe("cart-log-error");
    expect(draftProblems({ ...lines, name: "x" })).toEqual([]);
  });
  it("needs a query", () => expect(draftProblems({ ...newLinesDraft("log", " ", undefined, []), name: "x" })).toHaveLength(1));
  it("leaves out what other objects do not have", () => {
    expect(withGroup(lines, "namespace").spec).toMatchObject({ objects: { namespaces: ["shop"] }, conditions: [{ groupBy: "namespace" }] });
    expect(withGroup(lines, "namespace").spec.objects).not.toHaveProperty("workloads");
    expect(withGroup(lines, "node").spec).not.toHaveProperty("objects");
  });
  it("comes from one about a metric, and goes back to one", () => {
    const d = withLines(newDraft(metric({}), { namespaces: ["shop"] }, []), "event");
    expect(d.spec).toMatchObject({ level: "event", objects: { namespaces: ["shop"] }, conditions: [{ query: "*", groupBy: "namespace" }] });
    const back = withMetric(d, 0, metric({})).spec.conditions?.[0];
    expect(back?.metric).toBe("k8s_x");
    expect(back).not.toHaveProperty("query");
  });
});
