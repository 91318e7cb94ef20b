import { expect, it } from "vitest";
import { pressed } from "./keys";

const key = (k: string, more: Partial<{ ctrlKey: boolean; metaKey: boolean; altKey: boolean }> = {}) => ({ key: k, ctrlKey: false, metaKey: false, altKey: false, ...more });

it.each([
  ["/", key("/"), false, undefined, { do: "palette" }],
  ["/ in a field", key("/"), true, undefined, undefined],
  ["Ctrl-K in a field", key("k", { ctrlKey: true }), true, undefined, { do: "palette" }],
  ["⌘K", key("K", { metaKey: true }), false, undefined, { do: "palette" }],
  ["?", key("?"), false, undefined, { do: "keys" }],
  ["t", key("t"), false, undefined, { do: "range" }],
  ["Ctrl-T, which is the browser's", key("t", { ctrlKey: true }), false, undefined, undefined],
  ["g", key("g"), false, undefined, { do: "wait" }],
  ["g l", key("l"), false, "g", { do: "jump", to: "/logs" }],
  ["l alone", key("l"), false, undefined, undefined],
  ["g z", key("z"), false, "g", undefined],
  ["Esc", key("Escape"), false, undefined, { do: "back" }],
] as const)("%s", (_, e, typing, after, want) => expect(pressed(e, typing, after)).toEqual(want));
