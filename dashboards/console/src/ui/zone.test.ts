import { expect, it } from "vitest";
import { wallTime, zones } from "./zone";

const at = Date.parse("2026-11-23T23:30:05.120Z") / 1000;

it.each([
  ["UTC", "2026-11-23 23:30:05.120"],
  ["Asia/Shanghai", "2026-11-24 7:30:05.120"],
  ["America/St_Johns", "2026-11-23 20:0:05.120"],
  ["Asia/Kathmandu", "2026-11-24 5:15:05.120"],
])("clocks in %s show %s", (zone, want) => {
  const t = wallTime(at, zone);
  expect(`${t.year}-${t.month}-${t.day} ${t.hour}:${t.minute}:${String(t.second).padStart(2, "0")}.${t.millis}`).toBe(want);
});

it("offers UTC first, once", () => {
  const all = zones();
  expect(all[0]).toBe("UTC");
  expect(all.filter((z) => z === "UTC")).toHaveLength(1);
  expect(all).toContain("Asia/Shanghai");
});
