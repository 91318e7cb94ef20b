import { messages } from "./messages";

const same = (english: string): string => english;

/** What the server says in English, in the page's language where it is known; else as it was said. */
export const server = messages("server", {
  /** A metric's title in the catalogue. */
  title: same,
  /** What a metric is, in a sentence. */
  help: same,
  /** What went wrong, by the server's code word, and what is wrong with which part; a detail that names things stays as it was said. */
  problem: (_code: string, said: string, wrong: readonly string[] = []): string => [said, ...wrong.filter((w) => !said.includes(w))].join("; "),
  /** Why something is refused, by the code of the sentence and what its {names} stand for. */
  refusal: (_reason: string, _params: Readonly<Record<string, string>>, said: string): string => said,
  /** When a metric has no series, or why a cluster has none of it. */
  why: same,
  /** What alerts, incidents and policies are called, and what they say of themselves. */
  alert: same,
  /** How a cluster is. */
  sentence: same,
});
