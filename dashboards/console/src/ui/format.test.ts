import { describe, expect, it } from "vitest";
import { age, byUnit, bytes, bytesPerSecond, clock, cores, count, duration, exactly, instant, number, percent, plural } from "./format";

describe("numbers", () => {
  it.each([
    [null, "–"],
    [undefined, "–"],
    [Number.NaN, "–"],
    [0, "0"],
    [0.0001, "< 0.001"],
    [0.1234, "0.123"],
    [1.239, "1.24"],
    [12.34, "12.3"],
    [1234.6, "1,235"],
    [-1.5, "−1.5"],
    [9_999_999, "9,999,999"],
    [28_722_500_000, "28.7 G"],
    [-15_468_500, "−15.5 M"],
  ])("number %s is %s", (v, text) => expect(number(v)).toBe(text));

  it.each([
    [0, "0 B"],
    [1023, "1,023 B"],
    [1024, "1 KiB"],
    [1048064, "1 MiB"], // 1023.5 KiB
    [412 * 1024 ** 2, "412 MiB"],
    [1.5 * 1024 ** 3, "1.5 GiB"],
    [null, "–"],
  ])("bytes %s is %s", (v, text) => expect(bytes(v)).toBe(text));

  it.each([
    [0, "0 B/s"],
    [999, "999 B/s"],
    [1200, "1.2 kB/s"],
    [2_500_000, "2.5 MB/s"],
  ])("bandwidth %s is %s", (v, text) => expect(bytesPerSecond(v)).toBe(text));

  it.each([
    [0, "0"],
    [0.0004, "< 1m"],
    [0.25, "250m"],
    [1.5, "1.5"],
    [120, "120"],
    [null, "–"],
  ])("cores %s is %s", (v, text) => expect(cores(v)).toBe(text));

  it.each([
    [0, "0 %"],
    [0.01, "< 0.1 %"],
    [9.26, "9.3 %"],
    [92.4, "92 %"],
    [1350.2, "1,350 %"],
    [null, "–"],
  ])("per cent %s is %s", (v, text) => expect(percent(v)).toBe(text));

  it("tells zero from unknown in every unit", () => {
    for (const unit of ["%", "cores", "B", "B/s", "count", "0/1"]) {
      expect(byUnit(null, unit)).toBe("–");
      expect(byUnit(0, unit)).not.toBe("–");
    }
  });

  it("rounds counts", () => expect(count(1234.4)).toBe("1,234"));
  it("says one and many", () => expect([plural(1, "node"), plural(2, "node"), plural(0, "policy", "policies")]).toEqual(["1 node", "2 nodes", "0 policies"]));
});

describe("times", () => {
  it.each([
    [0, "0 s"],
    [59.4, "59 s"],
    [720, "12 min"],
    [7800, "2 h 10 min"],
    [7200, "2 h"],
    [63000, "17 h"],
    [273600, "3 d 4 h"],
    [40 * 86400 + 7200, "40 d"],
    [-5, "0 s"],
    [null, "–"],
  ])("%s seconds are %s", (v, text) => expect(duration(v)).toBe(text));

  it("takes Go's zero time for none", () => {
    expect(instant("0001-01-01T00:00:00Z")).toBeUndefined();
    expect(instant("")).toBeUndefined();
    expect(instant(null)).toBeUndefined();
    expect(instant("2026-11-23T10:00:00Z")).toBe(1795428000);
    expect(age("0001-01-01T00:00:00Z", 1795428000)).toBe("–");
    expect(age("2026-11-23T10:00:00Z", 1795428060)).toBe("1 min");
  });

  it("adds the date to a time of another day", () => {
    const at = new Date(2026, 10, 23, 9, 5, 7).getTime() / 1000;
    expect(clock(at, at + 60)).toBe("09:05");
    expect(clock(at, at + 60, true)).toBe("09:05:07");
    expect(clock(at, at + 86400)).toBe("11-23 09:05");
  });
});
it.each([
  [99.5, "%", "99.5 %"],
  [0.001, "%", "0.001 %"],
  [80, "%", "80 %"],
  [1234.5, "count", "1,234.5"],
])("writes %s %s as it was written", (v, unit, want) => expect(exactly(v, unit)).toBe(want));
