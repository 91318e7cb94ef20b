// @vitest-environment jsdom
import { describe, expect, it } from "vitest";
import { defaultRange } from "@/ui/time";
import { rangeSince, showsLines } from "./defaultRange";

const now = Date.parse("2026-03-01T12:00:00Z") / 1000;

describe("the range where the URL names none", () => {
  it.each([
    ["a server without samples", undefined, defaultRange],
    ["a sample of long ago", "2026-02-01T00:00:00Z", defaultRange],
    ["a young server", "2026-03-01T11:20:30Z", { from: "2026-03-01T11:20:00Z", to: "now" }],
    ["one that has just begun, whose chart would be all axis", "2026-03-01T11:59:30Z", { from: "2026-03-01T11:55:00Z", to: "now" }],
  ])("of %s", (_, since, want) => expect(rangeSince(since, now)).toEqual(want));
});

it.each([
  ["/logs", undefined, true],
  ["/events", undefined, true],
  ["/clusters/a", "logs", true],
  ["/clusters/a/namespaces/b/pods/c", "events", true],
  ["/clusters/logs", undefined, false],
  ["/clusters/a", "charts", false],
  ["/policies", "logs", false],
])("the page %s with tab %s shows lines: %s", (path, tab, want) => expect(showsLines(path, tab)).toBe(want));
