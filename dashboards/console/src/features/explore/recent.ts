import { remembered } from "./model";

/** The queries that were asked in this browser. */
const kept = "crowsnest.explore.recent";

export function recent(): string[] {
  try {
    const read: unknown = JSON.parse(globalThis.localStorage.getItem(kept) ?? "[]");
    return Array.isArray(read) ? read.filter((q) => typeof q === "string") : [];
  } catch {
    return []; // Forbidden by the browser, or written by somebody else.
  }
}

export function remember(query: string): void {
  try {
    globalThis.localStorage.setItem(kept, JSON.stringify(remembered(recent(), query)));
  } catch {
    // Nothing is remembered then.
  }
}
