import { describe, expect, it } from "vitest";
import { onGrid, selector } from "./prometheus";

describe("onGrid", () => {
  it("leaves a gap where there is no point, and keeps zero", () => {
    const r = onGrid([{ metric: { pod: "a" }, values: [[0, "1"], [60, "0"], [90, "2.5"]] }], 0, 90, 30);
    expect(r.times).toEqual([0, 30, 60, 90]);
    expect(r.series[0]?.values).toEqual([1, null, 0, 2.5]);
  });
  it("takes NaN and infinities for no value", () => expect(onGrid([{ metric: {}, values: [[0, "NaN"], [30, "+Inf"]] }], 0, 30, 30).series[0]?.values).toEqual([null, null]));
  it("ignores points outside", () => expect(onGrid([{ metric: {}, values: [[900, "1"]] }], 0, 30, 30).series[0]?.values).toEqual([null, null]));
});

it("quotes label values", () => expect(selector({ cluster: 'a"b\\c', pod: undefined })).toBe('{cluster="a\\"b\\\\c"}'));
