import { describe, expect, it } from "vitest";
import { address, channels, headerLines, isMasked, missing, ofChannel, parseHeaders, read, type TargetSpec, write } from "./target";

const spec = (more: Partial<TargetSpec>): TargetSpec => ({ type: "webhook", ...more });

describe("a spec", () => {
  it("takes a value in its place", () => expect(write(spec({ type: "email" }), "email.host", "mx")).toEqual({ type: "email", email: { host: "mx" } }));
  it("keeps what stands beside it", () => expect(write(spec({ type: "telegram", telegram: { botToken: "***", chatId: 1 } }), "telegram.chatId", -5)).toEqual({ type: "telegram", telegram: { botToken: "***", chatId: -5 } }));
  it("has no empty values, and nothing that holds only such", () => expect(write(spec({ type: "slack", slack: { channel: "#a" } }), "slack.channel", "")).toEqual({ type: "slack" }));
  it("is not changed itself", () => {
    const before = spec({ url: "https://a" });
    write(before, "url", "https://b");
    expect(before.url).toBe("https://a");
  });
  it("is read where nothing is", () => expect(read(spec({}), "email.to")).toBeUndefined());
  it("of another channel keeps what all channels have", () => expect(ofChannel(spec({ url: "https://a", format: "template", timezone: "UTC", selfWatch: true }), "discord")).toEqual({ type: "discord", timezone: "UTC", selfWatch: true }));
});

it.each([
  [spec({}), ["url"]],
  [spec({ url: "https://a/***" }), []],
  [spec({ url: "https://a", format: "template" }), ["template.body"]],
  [spec({ type: "slack" }), ["url"]],
  [spec({ type: "slack", slack: { token: "xoxb-1" } }), ["url"]],
  [spec({ type: "slack", slack: { token: "xoxb-1", channel: "#a" } }), []],
  [spec({ type: "email", email: { to: [], from: "a@b", host: "mx" } }), ["email.to"]],
  [spec({ url: "https://a", calendar: { timezone: "UTC", within: [] } }), ["calendar.within"]],
])("of %j %j is missing", (s, want) => expect(missing(s)).toEqual(want));

it("knows what the server hides", () => expect(["***", "https://a/***", "https://a", "", undefined].map(isMasked)).toEqual([true, true, false, false, false]));

it("says where messages go", () => {
  expect(address(spec({ type: "email", email: { to: ["a@b", "c@d"], from: "x@y", host: "mx" } }))).toBe("a@b, c@d");
  expect(address(spec({ type: "wechat", wechat: { corpId: "c", agentId: "1", apiSecret: "***", toParty: "2" } }))).toBe("2");
});

it("reads headers as they are written", () => {
  const headers = { Authorization: "***", "X-Team": "a: b" };
  expect(parseHeaders(headerLines(headers))).toEqual(headers);
  expect(parseHeaders("nonsense\n: x\n")).toEqual({});
});

it("asks each thing of a channel once", () => {
  for (const fields of Object.values(channels)) expect(new Set(fields.map((f) => f.path)).size).toBe(fields.length);
});
