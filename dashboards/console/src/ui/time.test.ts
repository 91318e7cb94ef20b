import { describe, expect, it } from "vitest";
import { alignRange, around, parseTime, resolveRange, seconds, stepFor, widen } from "./time";

const now = 1_795_428_000; // 2026-11-23T10:00:00Z

describe("parseTime", () => {
  it.each([
    ["now", now],
    ["now-1h", now - 3600],
    ["now-1h30m", now - 5400],
    ["now-2d", now - 172800],
    ["2026-11-23T09:00:00Z", now - 3600],
    ["yesterday", undefined],
    ["now-", undefined],
    ["now-1y", undefined],
    ["1795428000", undefined],
    ["", undefined],
  ])("%s", (text, want) => expect(parseTime(text, now)).toBe(want));
});

describe("resolveRange", () => {
  it("keeps what can be read", () => expect(resolveRange({ from: "now-6h", to: "now-1h" }, now)).toEqual({ start: now - 21600, end: now - 3600 }));
  it("falls back to the last hour", () => {
    const hour = { start: now - 3600, end: now };
    expect(resolveRange({ from: "x", to: "now" }, now)).toEqual(hour);
    expect(resolveRange({ from: "now", to: "now-1h" }, now)).toEqual(hour);
  });
});

describe("stepFor", () => {
  it.each([
    [3600, 30, 240, 30],
    [10800, 30, 240, 60],
    [86400, 30, 240, 600],
    [3600, 60, 240, 60],
    [300, 10, 240, 10],
    [7_776_000, 30, 240, 43200],
    [3600, 7, 240, 21], // no nice step is a multiple of 7
  ])("%s s of data each %s s on %s points: %s s", (seconds, interval, points, want) => expect(stepFor(seconds, interval, points)).toBe(want));
});

it("aligns both ends to the step", () => expect(alignRange({ start: 100, end: 199 }, 30)).toEqual({ start: 90, end: 180 }));
it("takes a margin around a moment", () => expect(around(now, 60)).toEqual({ from: "2026-11-23T09:59:00Z", to: "2026-11-23T10:01:00Z" }));

describe("widen", () => {
  it("goes to the next preset that is twice as long", () => expect(widen({ from: "now-1h", to: "now" }, now)).toEqual({ from: "now-3h", to: "now" }));
  it("stops at what is kept", () => expect(widen({ from: "now-90d", to: "now" }, now)).toEqual({ from: "now-90d", to: "now" }));
  it("does not reach into the future", () =>
    expect(widen({ from: "2026-11-23T08:00:00Z", to: "2026-11-23T09:50:00Z" }, now)).toEqual({ from: "2026-11-23T07:05:00Z", to: "2026-11-23T10:00:00Z" }));
});

it.each([
  ["1h30m", 5400],
  ["30s", 30],
  ["5", undefined],
  ["", undefined],
])("reads %j as %s seconds", (text, want) => expect(seconds(text)).toBe(want));
