import { messages } from "./messages";

const same = (english: string): string => english;

/** What the server says in English, in the page's language where it is known; else as it was said. */
export const server = messages("server", {
  /** A metric's title in the catalogue. */
  title: same,
  /** When a metric has no series, or why a cluster has none of it. */
  why: same,
  /** How a cluster is. */
  sentence: same,
});
