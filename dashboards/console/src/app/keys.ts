/** g, then a letter: where it leads. */
export const jumps = {
  o: "/", c: "/clusters", i: "/incidents", l: "/logs", e: "/events", x: "/explore", b: "/boards", p: "/policies", n: "/notifications", s: "/settings",
} as const;

export type Press = { readonly do: "palette" | "keys" | "range" | "back" } | { readonly do: "jump"; readonly to: (typeof jumps)[keyof typeof jumps] } | { readonly do: "wait" } | undefined;

const isJump = (key: string): key is keyof typeof jumps => key in jumps;

/** What a key does, outside of fields; `after` is the key before, when it came just now. */
export function pressed(e: { readonly key: string; readonly ctrlKey: boolean; readonly metaKey: boolean; readonly altKey: boolean }, typing: boolean, after: string | undefined): Press {
  if (e.key.toLowerCase() === "k" && (e.ctrlKey || e.metaKey)) return { do: "palette" };
  if (typing || e.ctrlKey || e.metaKey || e.altKey) return undefined;
  if (after === "g" && isJump(e.key)) return { do: "jump", to: jumps[e.key] };
  switch (e.key) {
    case "/":
      return { do: "palette" };
    case "?":
      return { do: "keys" };
    case "t":
      return { do: "range" };
    case "g":
      return { do: "wait" };
    case "Escape":
      return { do: "back" };
    default:
      return undefined;
  }
}
