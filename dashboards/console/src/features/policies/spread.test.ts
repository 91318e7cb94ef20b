import { describe, expect, it } from "vitest";
import { beyond, binned, binsFor, spreadQuery } from "./spread";

describe("binsFor", () => {
  it.each([
    [[80, 95], 100, 60, 100],
    [[80], undefined, 100, 120],
    [[80], undefined, 9000, 120], // far above: the last bin holds it
    [[], undefined, 40, 40],
    [[], undefined, undefined, 1],
    [[1073741824], undefined, 5e8, 1.5 * 1073741824],
  ])("thresholds %j, unit to %s, highest %s: to at least %s", (thresholds, max, highest, least) => {
    const bins = binsFor(thresholds, max, highest);
    expect(bins.top).toBeGreaterThanOrEqual(least);
    const n = bins.top / bins.width;
    expect(n).toBeGreaterThanOrEqual(16);
    expect(n).toBeLessThanOrEqual(41);
  });
});

it("asks for counts by bin", () => expect(spreadQuery("x", { width: 5, top: 100 })).toBe('count_values("bin", clamp_max(round(x, 5), 100))'));

describe("binned", () => {
  const bins = { width: 10, top: 30 };
  const all = binned(
    new Map([
      [0, 6],
      [20, 3],
      [30, 1],
    ]),
    bins,
  );
  it("has a bin for each step up to the top", () => expect(all.map((b) => b.n)).toEqual([6, 0, 3, 1]));
  it("says what is beyond", () => expect([beyond(all, ">", 15), beyond(all, ">=", 30), beyond(all, "<", 10), beyond(all, ">", 99)]).toEqual([0.4, 0.1, 0.6, 0]));
  it("is empty without values", () => expect(binned(new Map(), bins)).toEqual([]));
  it("takes values below zero", () => expect(binned(new Map([[-10, 2]]), bins)[0]).toMatchObject({ from: -15, n: 2 }));
});
