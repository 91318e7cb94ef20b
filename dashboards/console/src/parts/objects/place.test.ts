import { describe, expect, it } from "vitest";
import { lineScope } from "./place";

describe("the lines of an object", () => {
  it("have its labels", () =>
    expect(lineScope({ cluster: "prod", namespace: "shop", pod: "cart-1" })).toEqual({ scope: { cluster: "prod", namespace: "shop", pod: "cart-1" } }));
  it("are those of the workloads behind a service", () =>
    expect(lineScope({ cluster: "prod", namespace: "shop", service: "cart" }, ["deployment/cart", "statefulset/old"])).toEqual({
      scope: { cluster: "prod", namespace: "shop" },
      fixed: '(workload_type:="deployment" workload:="cart") or (workload_type:="statefulset" workload:="old")',
    }));
  it("are none without a workload behind a service", () => expect(lineScope({ cluster: "prod", namespace: "shop", service: "cart" }).fixed).toBe("pod:in()"));
});
