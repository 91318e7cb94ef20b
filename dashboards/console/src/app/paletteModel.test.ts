import { expect, it } from "vitest";
import { type Entry, find } from "./paletteModel";

const entry = (kind: Entry["kind"], name: string, place = ""): Entry => ({ key: `${kind} ${name} ${place}`, kind, name, place, to: "/" });
const entries = [
  entry("page", "Overview"),
  entry("cluster", "prod-1"),
  entry("workload", "cart", "prod-1 ▸ shop ▸ deployment"),
  entry("pod", "cart-7c9f-x2k", "prod-1 ▸ shop"),
  entry("workload", "api-cart", "prod-1 ▸ shop ▸ deployment"),
  entry("workload", "discard", "prod-1 ▸ shop ▸ deployment"),
  entry("node", "worker-03", "prod-1"),
];
const names = (typed: string) => find(entries, typed, 10).map((e) => e.name);

it("shows pages and clusters before anything is typed", () => expect(names("")).toEqual(["Overview", "prod-1"]));
it("puts the exact name first, then beginnings, then parts", () => expect(names("cart")).toEqual(["cart", "cart-7c9f-x2k", "api-cart"]));
it("wants every word, in name, kind or place", () => {
  expect(names("shop pod")).toEqual(["cart-7c9f-x2k"]);
  expect(names("cart staging")).toEqual([]);
});
it("bounds what it gives", () => expect(find(entries, "prod", 2)).toHaveLength(2));
