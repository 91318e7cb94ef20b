import { expect, it } from "vitest";
import { conditionWords, subjectWords, targetWords, yaml } from "./model";

it("says a condition, with what it does not know by its name", () =>
  expect(conditionWords({ metric: "k8s_x", statistic: "avg", period: "1m", op: ">", thresholds: { critical: 95, warning: 80 }, need: 5, of: 5, where: { mountpoint: ["/var*"] } }, [])).toBe(
    "average of “k8s_x” where mountpoint /var* is above 80 (warning), 95 (critical) in 5 of 5 periods of 1 min",
  ));
it("says what a policy looks at", () => {
  expect(subjectWords({ level: "pod" })).toBe("any pod on all clusters");
  expect(subjectWords({ level: "pod", clusters: { names: ["prod-*"] }, objects: { namespaces: ["shop"], workloads: ["deployment/cart"], exclude: { namespaces: ["kube-system"] } } })).toBe(
    "any pod of deployment/cart in shop except kube-system on prod-*",
  );
});
it("names targets in both shapes", () => {
  expect(targetWords({ notify: { targets: ["a", { name: "b" }] } })).toBe("a, b");
  expect(targetWords({})).toBe("whom the routes name");
});
it("writes YAML that reads back as it was", () =>
  expect(yaml({ name: "a", on: "yes", op: ">", list: ["x", "1m"], deep: [{ a: 1, b: { c: true } }], none: undefined, empty: {} })).toBe(
    'name: a\non: "yes"\nop: ">"\nlist: [x, "1m"]\ndeep:\n  - a: 1\n    b:\n      c: true\nempty: {}',
  ));
